// The box for messages: its height, drafts, history, sending and stopping.

import { Attachments } from "./attachments.js";
import { Completion } from "./completion.js";
import { byId, crossButton, h, keep, setText } from "./dom.js";
import { kept, keptInTab } from "./storage.js";
import { complain, toast } from "./toasts.js";

/** The draft is written down when typing pauses. */
const DRAFT_MS = 300;

/** Drafts of more sessions are not kept. */
const DRAFTS_MAX = 50;

/** Keys that move the caret and change nothing. */
const MOVES = new Set(["ArrowLeft", "ArrowRight", "Home", "End", "PageUp", "PageDown"]);

/** A prompt that takes longer to arrive shows up among those that wait. */
const SHOWN_AFTER_MS = 400;

export class Composer {
    #message = /** @type {HTMLTextAreaElement} */ (byId("message"));
    #send = /** @type {HTMLButtonElement} */ (byId("send"));
    #session = "";
    /** What is kept of the draft. */
    #saved = "";
    #timer = 0;
    /** Prompts go out in the order in which they were written, also where files are read first. */
    #posted = Promise.resolve();
    /** How far back in the history; -1 is what was typed. */
    #back = -1;
    #typed = "";
    #app;
    #completion;
    #attachments;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        const message = this.#message;
        this.#completion = new Completion(app, message);
        this.#attachments = new Attachments(app);
        message.addEventListener("input", () => {
            this.#back = -1;
            this.#changed();
            this.#completion.update();
        });
        message.addEventListener("keydown", (event) => this.#key(event));
        // What is to be replaced stands before the caret: elsewhere it is something else.
        message.addEventListener("keyup", (event) => MOVES.has(event.key) && this.#completion.close());
        message.addEventListener("pointerup", () => this.#completion.close());
        byId("composer").addEventListener("submit", (event) => {
            event.preventDefault();
            void this.#submit();
        });
        byId("stop").addEventListener("click", () => void this.stop());
        // A phone's keyboard has one Enter, and that sends. It stays open: the box keeps the focus.
        byId("new-line").addEventListener("pointerdown", (event) => event.preventDefault());
        byId("new-line").addEventListener("click", () => {
            message.focus();
            message.setRangeText("\n", message.selectionStart, message.selectionEnd, "end");
            message.dispatchEvent(new Event("input", { bubbles: true }));
        });
        document.addEventListener("keydown", (event) => {
            if (event.key !== "Escape" || event.defaultPrevented || isComposed(event)) return;
            // There it closes or empties something.
            const { target } = event;
            const busy = target instanceof HTMLSelectElement || target === byId("search");
            if (!busy && !document.querySelector("dialog[open], #drawer.open")) void this.stop();
        });
        // What is typed before the page is ready is a draft, too.
        addEventListener("pagehide", () => this.#save());
        app.conversations.onSwitch.listen(() => this.#switched());
        app.conversations.onReplaced.listen((before, now) => {
            const shown = this.#session === before;
            if (shown) this.#save();
            const draft = kept.get(`draft ${before}`);
            kept.set(`draft ${before}`, null);
            if (draft) kept.set(`draft ${now}`, draft);
            if (shown) this.#session = now;
        });
        app.conversations.onChange.listen((conversation) => {
            if (conversation === app.conversations.current) this.#draw();
        });
        app.outbox.onChange.listen(() => {
            this.#draw();
            setTimeout(() => this.#draw(), SHOWN_AFTER_MS + 10);
        });
        app.outbox.onReturned.listen(({ sessionId, prompt, attachments }) => {
            this.#giveBack(sessionId, prompt);
            if (attachments.length > 0) toast("Its files must be added again.");
        });
        this.#saved = keptInTab.get("early draft") ?? "";
        message.value ||= this.#saved;
        this.#fit();
    }

    focus() {
        this.#message.focus();
    }

    /** The session that is shown is deleted, and what was written for it. */
    forget() {
        this.#put("");
        this.#save();
        this.#session = "";
        this.#saved = "";
    }

    filesChanged() {
        this.#send.disabled = this.#attachments.busy;
    }

    /** Stops what runs; what waits goes on waiting. */
    async stop() {
        const summary = this.#app.conversations.current?.summary;
        if (!summary || !isRunning(summary)) return;
        await this.#app.connection.request("interruptClaude", { sessionId: summary.sessionId }).catch(complain);
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        // A word that is being composed has its own Enter, arrows and Esc.
        if (isComposed(event)) return;
        if (this.#completion.key(event)) return;
        if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.altKey && !event.metaKey) {
            event.preventDefault();
            void this.#submit();
        } else if ((event.key === "ArrowUp" || event.key === "ArrowDown") && !event.shiftKey && !event.altKey) {
            this.#history(event);
        }
    }

    /** @param {KeyboardEvent} event */
    #history(event) {
        const { value, selectionStart, selectionEnd } = this.#message;
        const up = event.key === "ArrowUp";
        const atEdge = up ? !value.slice(0, selectionStart).includes("\n") : !value.slice(selectionEnd).includes("\n");
        // Long lines wrap: only from the very ends, unless one is in the history already.
        const inHistory = this.#back >= 0;
        if (!atEdge || (!inHistory && (up ? value !== "" && selectionStart > 0 : true))) return;
        const prompts = this.#app.conversations.current?.transcript.prompts() ?? [];
        const to = Math.min(prompts.length - 1, this.#back + (up ? 1 : -1));
        if (to === this.#back || to < -1) return;
        event.preventDefault();
        if (!inHistory) this.#typed = value;
        const text = to < 0 ? this.#typed : (prompts[prompts.length - 1 - to] ?? "");
        this.#put(text);
        this.#back = to;
    }

    async #submit() {
        const prompt = this.#message.value;
        // Without one it waits for the first.
        const session = this.#session;
        if (this.#attachments.busy) return toast("A file is still on its way.");
        if (this.#attachments.failed) return toast("A file could not be sent: take it out, or add it again.", "bad");
        if (prompt.trim() === "") {
            if (this.#attachments.count > 0) toast("Say what the files are for.");
            return;
        }
        this.#completion.close();
        const files = this.#attachments.take();
        this.#put("");
        this.#save();
        this.#app.sent();
        const post = async () => this.#app.outbox.post(session, prompt, await files);
        this.#posted = this.#posted.then(post).catch((error) => {
            complain(error);
            this.#giveBack(session, prompt);
        });
    }

    /**
     * A prompt that was not sent is a draft again, before what was written since.
     * @param {string} sessionId
     * @param {string} prompt
     */
    #giveBack(sessionId, prompt) {
        const join = (/** @type {string | null} */ since) => (since ? `${prompt}\n\n${since}` : prompt);
        if (sessionId === this.#session) this.#put(join(this.#message.value));
        else kept.set(`draft ${sessionId}`, join(kept.get(`draft ${sessionId}`)));
    }

    /** @param {string} text */
    #put(text) {
        this.#message.value = text;
        this.#message.setSelectionRange(text.length, text.length);
        this.#back = -1;
        this.#changed();
    }

    #changed() {
        this.#fit();
        clearTimeout(this.#timer);
        this.#timer = setTimeout(() => this.#save(), DRAFT_MS);
    }

    /** Browsers that can do it by themselves are left alone. */
    #fit() {
        if (CSS.supports("field-sizing", "content")) return;
        const { style } = this.#message;
        style.setProperty("height", "auto");
        style.setProperty("height", `${this.#message.scrollHeight + 2}px`);
    }

    #save() {
        clearTimeout(this.#timer);
        const text = this.#back >= 0 ? this.#typed : this.#message.value;
        // Another tab may have sent since what is here unchanged.
        if (text === this.#saved) return;
        this.#saved = text;
        if (!this.#session) return keptInTab.set("early draft", text === "" ? null : text);
        const name = `draft ${this.#session}`;
        kept.set(name, text === "" ? null : text);
        const drafts = kept.names().filter((name) => name.startsWith("draft "));
        if (drafts.length > DRAFTS_MAX) kept.set(/** @type {string} */ (drafts.find((other) => other !== name)), null);
    }

    #switched() {
        const id = this.#app.conversations.current?.id ?? "";
        if (id !== this.#session) {
            // What was typed while there was no session yet goes into the first.
            const early = this.#session === "" ? this.#message.value : "";
            if (this.#session !== "") this.#save();
            keptInTab.set("early draft", null);
            this.#session = id;
            this.#saved = kept.get(`draft ${id}`) ?? "";
            this.#put(early || this.#saved);
            this.#completion.close();
        }
        this.#draw();
    }

    #draw() {
        const conversation = this.#app.conversations.current;
        const summary = conversation?.summary;
        byId("stop").hidden = !summary || !isRunning(summary);
        const waiting = (summary?.queue ?? []).map(({ promptId, text }) => ({ promptId, text, note: "waits" }));
        const known = new Set([summary?.running, ...waiting.map(({ promptId }) => promptId)]);
        for (const { promptId, prompt, at } of this.#app.outbox.of(this.#session)) {
            if (known.has(promptId) || Date.now() - at < SHOWN_AFTER_MS) continue;
            const note = this.#app.connection.connected ? "sending" : "sent when connected";
            waiting.push({ promptId, text: prompt, note });
        }
        const queue = byId("queue");
        keep(queue, waiting, ({ promptId }) => promptId, ({ promptId, text }) => h("li", null,
            h("span", { class: "note dim small" }), h("span", { class: "clip" }, text),
            crossButton(`Cancel: ${text.slice(0, 60)}`, () => void this.#cancel(promptId, text)),
        ), (element, { note }) => setText(/** @type {Element} */ (element.firstElementChild), note));
        queue.hidden = waiting.length === 0;
    }

    /**
     * @param {string} promptId
     * @param {string} text
     */
    async #cancel(promptId, text) {
        const sessionId = this.#session;
        const unsent = this.#app.outbox.cancel(promptId);
        const { connection } = this.#app;
        const cancelled = unsent || (await connection.request("cancelPrompt", { sessionId, promptId }).catch(complain));
        // Back to where it can be changed; the server shortens long ones, and half a prompt helps nobody.
        if (cancelled && this.#message.value === "" && (unsent || text.length < 190)) this.#put(text);
        this.focus();
    }
}

/**
 * Whether it belongs to a word that is being composed. Safari tells the last key of one by its code alone.
 * @param {KeyboardEvent} event
 */
function isComposed(event) {
    return event.isComposing || event.keyCode === 229;
}

/** @param {import("./wire.js").Summary} summary */
function isRunning({ state, running }) {
    return running !== null || state === "busy" || state === "waiting";
}
