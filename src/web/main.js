// The page: what it is made of, and which session it shows. Everything it does goes over the wire that all clients use.

import { Asking } from "./asking.js";
import { Attention } from "./attention.js";
import { Composer } from "./composer.js";
import { Connection } from "./connection.js";
import { ConversationView } from "./conversation/view.js";
import { Conversations } from "./conversations.js";
import { byId } from "./dom.js";
import { newSession } from "./new_session.js";
import { Outbox } from "./outbox.js";
import { Pickers } from "./pickers.js";
import { forgetKept, menuOf } from "./session_menu.js";
import { SessionList } from "./sessions.js";
import { Status } from "./status.js";
import { keptInTab } from "./storage.js";
import { complain, toast } from "./toasts.js";
import { askForToken, confirmed, fallBack, fragment, takeToken, token } from "./token.js";
import { titleOf } from "./words.js";

export class App {
    connection = new Connection(() =>
        ({ token: token(), stream: "events", ...this.conversations.place(), ...this.#linked() }));
    conversations = new Conversations(this.connection);
    outbox = new Outbox(this);
    sessions = new SessionList(this);
    composer = new Composer(this);
    /** Sessions that are deleted from here. @type {Set<string>} */
    deleting = new Set();
    #view;
    #asking = false;
    #log = byId("log");

    constructor() {
        new Asking(this);
        new Pickers(this);
        new Status(this);
        new Attention(this);
        this.#view = new ConversationView(this.#log, {
            loadOlder: () => this.conversations.loadOlder(),
            fetchEvent: (seq) => this.fetchEvent(this.conversations.current?.id, seq),
            jumpButton: /** @type {HTMLButtonElement} */ (byId("jump")),
        });
        this.conversations.onSwitch.listen(() => this.#switched());
        this.conversations.onReplaced.listen((before) => {
            // One in which nothing was asked is gone with its last viewer, and missed by nobody.
            if (keptInTab.get("unused") !== before) toast("That session is not there any more; this is a new one.");
        });
        this.conversations.onSummary.listen((summary) => {
            if (summary.deleted) this.#deleted(summary);
            else if (summary.sessionId === this.conversations.current?.id) {
                keptInTab.set("unused", summary.title === null && summary.turns === 0 ? summary.sessionId : null);
                byId("new-session").hidden = summary.mode === "shared";
            }
        });
        this.connection.onState.listen(() => void this.#state());
        this.connection.onEvent.listen((name, data) => {
            if (name === "serverError" && data.event !== "connect") toast(data.message, "bad");
        });
        addEventListener("hashchange", () => this.#followed());
        byId("new-session").addEventListener("click", () => void newSession(this));
        const menu = byId("session-menu");
        menu.addEventListener("click", () => menuOf(this, this.conversations.current?.summary, menu));
        byId("skip").addEventListener("click", (event) => {
            // The address names the session.
            event.preventDefault();
            this.composer.focus();
        });
        this.#drawer();
    }

    start() {
        takeToken();
        if (matchMedia("(pointer: fine)").matches) this.composer.focus();
        if (token() === null) this.connection.stayAway();
        else this.connection.open();
    }

    /** Shows it at once: what is typed next is meant for it. @param {string} sessionId */
    open(sessionId) {
        history.pushState(null, "", `#session=${encodeURIComponent(sessionId)}`);
        if (sessionId !== this.conversations.current?.id) void this.#show(sessionId);
    }

    /** A prompt was sent: whoever asks wants to see the answer. */
    sent() {
        this.#view.toEnd();
    }

    /** @param {import("./wire.js").Summary} summary */
    #deleted(summary) {
        const { sessionId } = summary;
        const shown = this.conversations.current?.id === sessionId;
        if (shown && !this.deleting.has(sessionId)) toast(`“${titleOf(summary)}” was deleted elsewhere.`);
        this.gone(sessionId);
    }

    /** A session was deleted, here or elsewhere. @param {string} sessionId */
    gone(sessionId) {
        const shown = this.conversations.current?.id === sessionId;
        this.sessions.remove(sessionId);
        this.conversations.drop(sessionId);
        if (shown) this.composer.forget();
        forgetKept(sessionId);
        if (!shown) return;
        const next = this.sessions.next(sessionId);
        if (next) return this.open(next.sessionId);
        this.conversations.leave();
        history.replaceState(null, "", location.pathname + location.search);
        this.connection.reopen();
    }

    closeDrawer() {
        if (!byId("drawer").classList.contains("open")) return;
        byId("drawer").classList.remove("open");
        byId("scrim").hidden = true;
        byId("open-drawer").setAttribute("aria-expanded", "false");
        byId("open-drawer").focus();
    }

    /** The session of the address, before there is any other. */
    #linked() {
        const sessionId = fragment().get("session");
        return sessionId && !this.conversations.current ? { sessionId } : {};
    }

    async #state() {
        if (this.connection.connected) confirmed();
        if (this.connection.state !== "unauthorized") return;
        if (fallBack()) this.connection.open();
        else await this.#askForToken();
    }

    async #askForToken() {
        if (this.#asking) return;
        this.#asking = true;
        await askForToken();
        this.#asking = false;
        this.connection.open();
    }

    /** Somebody followed a link within the page, or went back. */
    #followed() {
        if (takeToken()) {
            // The question for it is answered.
            if (this.#asking) return location.reload();
            if (!this.connection.connected) this.connection.open();
        }
        const id = fragment().get("session");
        if (id && id !== this.conversations.current?.id) void this.#show(id);
    }

    /** @param {string} id */
    async #show(id) {
        this.#rememberScroll();
        this.closeDrawer();
        try {
            await this.conversations.show(id);
        } catch (error) {
            complain(error);
            if (/** @type {any} */ (error).code === "invalid_session") this.gone(id);
        }
    }

    #rememberScroll() {
        const { current } = this.conversations;
        const { scrollHeight, scrollTop, clientHeight } = this.#log;
        const up = scrollHeight - scrollTop - clientHeight;
        if (current) current.scrolledUp = up > 50 ? up : 0;
    }

    #switched() {
        const { current } = this.conversations;
        if (!current) return;
        this.#view.show(current.transcript);
        const { scrollHeight, clientHeight } = this.#log;
        if (current.scrolledUp > 0) this.#log.scrollTop = scrollHeight - clientHeight - current.scrolledUp;
        if (fragment().get("session") !== current.id) {
            history.replaceState(null, "", `#session=${encodeURIComponent(current.id)}`);
        }
        if (matchMedia("(pointer: fine)").matches && !document.querySelector("dialog[open]")) this.composer.focus();
    }

    /**
     * An event that is too large for the socket.
     * @param {string | undefined} id
     * @param {number} seq
     */
    async fetchEvent(id, seq) {
        const response = await fetch(new URL(`api/sessions/${id}/events/${seq}`, document.baseURI), {
            headers: { Authorization: `Bearer ${token()}` },
        }).catch(() => null);
        return response?.ok ? response.json() : null;
    }

    #drawer() {
        const drawer = byId("drawer");
        byId("open-drawer").addEventListener("click", () => {
            drawer.classList.add("open");
            byId("scrim").hidden = false;
            byId("open-drawer").setAttribute("aria-expanded", "true");
            byId("close-drawer").focus();
            void this.sessions.refresh();
        });
        byId("close-drawer").addEventListener("click", () => this.closeDrawer());
        byId("scrim").addEventListener("click", () => this.closeDrawer());
        drawer.addEventListener("keydown", (event) => {
            if (event.key !== "Escape" || !drawer.classList.contains("open")) return;
            // It empties itself first.
            const { target } = event;
            if (target instanceof HTMLInputElement && target.value !== "") return;
            event.preventDefault();
            this.closeDrawer();
        });
    }
}

new App().start();
