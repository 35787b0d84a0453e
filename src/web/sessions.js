// The list of sessions. Its server tells of those that are watched; of the others it is asked now and then.

import { button, byId, h, keep, setText } from "./dom.js";
import { menuOf } from "./session_menu.js";
import { kept } from "./storage.js";
import { complain } from "./toasts.js";
import { ago, lastPart, money, STATES, stateOf, titleOf } from "./words.js";

/** While somebody looks. */
const REFRESH_MS = 10_000;

const TYPING_MS = 200;

const PAGE_SESSIONS = 50;

/** States that are worth a word in the list. @type {{[state: string]: string}} */
const MARKS = { waiting: "asks you", failed: "in trouble", busy: "at work", starting: "starting" };

/** @typedef {import("./wire.js").Summary} Summary */

export class SessionList {
    /** @type {Map<string, Summary>} */
    #sessions = new Map();
    /** @type {string | undefined} */
    #cursor;
    /** How much is shown: a refresh asks for as much. */
    #count = PAGE_SESSIONS;
    #asked = 0;
    #query = "";
    #drawn = 0;
    #app;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        const search = /** @type {HTMLInputElement} */ (byId("search"));
        let timer = 0;
        search.addEventListener("input", () => {
            clearTimeout(timer);
            timer = setTimeout(() => this.#search(search.value.trim()), TYPING_MS);
        });
        byId("more-sessions").addEventListener("click", () => void this.#more());
        // Up and down move from one to the next, as in a list of a desktop.
        byId("drawer").addEventListener("keydown", (event) => {
            const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
            const links = [...byId("sessions").querySelectorAll("a")];
            const at = links.indexOf(/** @type {any} */ (document.activeElement));
            if (!step || (at < 0 && document.activeElement !== search)) return;
            event.preventDefault();
            (links[at + step] ?? (step < 0 ? search : links[at]))?.focus();
        });
        app.conversations.onSummary.listen((summary) => this.#summary(summary));
        app.conversations.onSwitch.listen(() => this.#draw());
        app.connection.onState.listen(() => app.connection.connected && void this.refresh());
        setInterval(() => !document.hidden && void this.refresh(), REFRESH_MS);
        document.addEventListener("visibilitychange", () => !document.hidden && void this.refresh());
    }

    async refresh() {
        if (!this.#app.connection.connected) return;
        const asked = ++this.#asked;
        const wanted = { limit: this.#count, ...(this.#query && { query: this.#query }) };
        const got = await this.#app.connection.request("listSessions", wanted).catch(() => null);
        // Another answer is on its way, to a newer question.
        if (!got || asked !== this.#asked) return;
        /** @type {[string, Summary][]} */
        const found = got.sessions.map((/** @type {Summary} */ session) => [session.sessionId, session]);
        if (found.length < this.#count && got.cursor !== undefined) {
            // The server does not tell of so many at once: those behind these stay as they were.
            const last = Math.min(...found.map(([, session]) => session.lastActivity));
            const behind = [...this.#sessions].filter(([, session]) => session.lastActivity < last);
            this.#sessions = new Map([...behind, ...found]);
        } else {
            this.#sessions = new Map(found);
            this.#cursor = got.cursor;
        }
        this.#draw();
    }

    /** @param {string} id */
    get(id) {
        return this.#sessions.get(id);
    }

    /** The most recently active one but that. @param {string} id */
    next(id) {
        return this.#sorted().find((session) => session.sessionId !== id);
    }

    /** @param {string} id */
    remove(id) {
        this.#sessions.delete(id);
        this.#draw();
    }

    /** @param {string} query */
    #search(query) {
        this.#query = query;
        this.#count = PAGE_SESSIONS;
        void this.refresh();
    }

    async #more() {
        const wanted = { limit: PAGE_SESSIONS, cursor: this.#cursor, ...(this.#query && { query: this.#query }) };
        const got = await this.#app.connection.request("listSessions", wanted).catch(complain);
        if (!got) return;
        this.#count += PAGE_SESSIONS;
        for (const session of got.sessions) this.#sessions.set(session.sessionId, session);
        this.#cursor = got.cursor;
        this.#draw();
    }

    /** @param {Summary} summary */
    #summary(summary) {
        const known = this.#sessions.has(summary.sessionId);
        if (summary.deleted) this.#sessions.delete(summary.sessionId);
        // One that was never used is not listed; what was searched for, only the server finds.
        else if (known || (!this.#query && (summary.turns > 0 || summary.title !== null))) {
            this.#sessions.set(summary.sessionId, summary);
        }
        this.#draw();
    }

    #sorted() {
        return [...this.#sessions.values()].sort((a, b) => b.lastActivity - a.lastActivity);
    }

    /** Not more often than the screen is drawn: summaries come in bursts. */
    #draw() {
        this.#drawn ||= requestAnimationFrame(() => {
            this.#drawn = 0;
            const sessions = this.#sorted();
            keep(byId("sessions"), sessions, (session) => session.sessionId, (session) => this.#make(session),
                (element, session) => this.#update(element, session));
            byId("more-sessions").hidden = this.#cursor === undefined;
            const none = this.#query ? "Nothing found." : "No sessions yet: ask something.";
            setText(byId("list-note"), sessions.length > 0 || this.#asked === 0 ? "" : none);
        });
    }

    /** @param {Summary} session */
    #make({ sessionId }) {
        const more = button("⋯", () => menuOf(this.#app, this.#sessions.get(sessionId), more), {
            class: "quiet square",
            "aria-haspopup": "menu",
        });
        const parts = (/** @type {string[]} */ ...names) => names.map((name) => h("span", { class: name }));
        return h("li", null,
            h("a", { href: `#session=${encodeURIComponent(sessionId)}`, onclick: () => this.#app.closeDrawer() },
                h("span", { class: "row" }, parts("dot", "name", "age dim small")),
                h("span", { class: "row small dim" }, parts("where", "mark", "cost"))),
            more);
    }

    /**
     * @param {HTMLElement} element
     * @param {Summary} session
     */
    #update(element, session) {
        /** @param {string} name */
        const part = (name) => /** @type {HTMLElement} */ (element.querySelector(name));
        const title = titleOf(session);
        const state = stateOf(session);
        const shown = session.sessionId === this.#app.conversations.current?.id;
        const draft = !shown && kept.get(`draft ${session.sessionId}`) !== null;
        setText(part(".name"), title);
        setText(part(".age"), ago(session.lastActivity));
        setText(part(".where"), lastPart(session.cwd));
        part(".where").title = session.cwd;
        setText(part(".mark"), [
            session.source === "terminal" && "terminal",
            MARKS[state],
            draft && "draft",
        ].filter(Boolean).join(" · "));
        setText(part(".cost"), session.costUsd > 0 ? money(session.costUsd) : "");
        part(".dot").dataset.state = state;
        part(".dot").title = STATES[state];
        part("button").setAttribute("aria-label", `What to do with ${title}`);
        if (shown) part("a").setAttribute("aria-current", "true");
        else part("a").removeAttribute("aria-current");
    }
}
