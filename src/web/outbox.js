// Prompts on their way. Each has a name of its own from the beginning, so that asking again after a lost connection or
// a reload asks once; it is kept until the server has it on its disk, each by itself, since other tabs have theirs.

import { Signal } from "./signal.js";
import { kept, keptInTab, onRemovedElsewhere } from "./storage.js";
import { complain, toast } from "./toasts.js";

/** Between two tries where the server cannot take it now. */
const RETRY_MS = 3_000;

/** What a letter is kept as. */
const NAME = "letter ";

/** One so long upon which the connection breaks each time is longer than the server takes. */
const LONG_CHARS = 100_000;
const BREAKS_MAX = 3;

/** Refusals that pass. */
const PASSING = new Set(["disconnected", "timeout", "rate_limited", "shutting_down"]);

/** @typedef {import("./wire.js").Sent} Sent */
/** @typedef {{sessionId: string, promptId: string, prompt: string, attachments: Sent[], at: number}} Letter */

export class Outbox {
    /** @type {Signal<[]>} */
    onChange = new Signal();
    /** One that was refused goes back to whoever wrote it. @type {Signal<[Letter]>} */
    onReturned = new Signal();
    /** @type {Letter[]} */
    #letters = [];
    #sending = false;
    /** How often the connection broke upon a long one. @type {Map<string, number>} */
    #breaks = new Map();
    #app;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        const letters = [kept, keptInTab].flatMap((keeper) =>
            keeper.names().filter((name) => name.startsWith(NAME)).flatMap((name) => read(keeper.get(name))));
        this.#letters = letters.sort((a, b) => a.at - b.at);
        // Another tab that had it, too, has sent it or taken it back.
        onRemovedElsewhere((name) => name.startsWith(NAME) && this.#remove(name.slice(NAME.length)));
        app.connection.onState.listen(() => void this.flush());
        app.conversations.onSwitch.listen(() => this.#moved("", app.conversations.current?.id ?? ""));
        app.conversations.onReplaced.listen((before, now) => this.#moved(before, now));
    }

    /** @param {string} sessionId empty: written before there was any session */
    of(sessionId) {
        return this.#letters.filter((letter) => letter.sessionId === sessionId);
    }

    /**
     * @param {string} sessionId
     * @param {string} prompt
     * @param {Sent[]} attachments
     */
    post(sessionId, prompt, attachments) {
        const letter = { sessionId, promptId: promptId(), prompt, attachments, at: Date.now() };
        this.#letters.push(letter);
        keep(letter);
        this.onChange.tell();
        void this.flush();
    }

    /** @param {string} promptId */
    cancel(promptId) {
        const found = this.#letters.find((letter) => letter.promptId === promptId);
        this.#remove(promptId);
        return found;
    }

    /** Sends what waits, in order. */
    async flush() {
        if (this.#sending || !this.#app.connection.connected) return;
        this.#sending = true;
        while (this.#app.connection.connected) {
            const letter = this.#letters.find(({ sessionId }) => sessionId);
            if (!letter) break;
            const { promptId, sessionId, prompt, attachments } = letter;
            const data = { sessionId, prompt, promptId, ...(attachments.length > 0 && { attachments }) };
            try {
                await this.#ask(data);
                this.#remove(promptId);
            } catch (error) {
                const { code } = /** @type {any} */ (error);
                const tooLong = code === "disconnected" && this.#breaksAgain(letter);
                if (PASSING.has(code) && !tooLong) {
                    setTimeout(() => void this.flush(), RETRY_MS);
                    break;
                }
                this.#remove(promptId);
                this.onReturned.tell(letter);
                if (tooLong) toast("This message is too long for the server.", "bad");
                else if (code === "conflict") toast("That was asked already.");
                else complain(error);
            }
        }
        this.#sending = false;
    }

    /** Whether the connection has broken too often when this one was sent. @param {Letter} letter */
    #breaksAgain({ promptId, prompt, attachments }) {
        const bytes = attachments.reduce((sum, file) => sum + ("data" in file ? file.data.byteLength : 0), 0);
        if (prompt.length + bytes < LONG_CHARS) return false;
        const breaks = (this.#breaks.get(promptId) ?? 0) + 1;
        this.#breaks.set(promptId, breaks);
        return breaks >= BREAKS_MAX;
    }

    /**
     * @param {string} before
     * @param {string} now
     */
    #moved(before, now) {
        const moved = this.#letters.filter(({ sessionId }) => sessionId === before);
        if (moved.length === 0 || now === before) return;
        for (const letter of moved) {
            letter.sessionId = now;
            keep(letter);
        }
        this.onChange.tell();
        void this.flush();
    }

    /** @param {{sessionId: string}} data */
    async #ask(data) {
        const { connection } = this.#app;
        try {
            await connection.request("askClaudeCode", data);
        } catch (error) {
            if (/** @type {any} */ (error).code !== "session_ended") throw error;
            // Somebody has closed it; who asks wants it open.
            await connection.request("resumeSession", { sessionId: data.sessionId });
            await connection.request("askClaudeCode", data);
        }
    }

    /** @param {string} promptId */
    #remove(promptId) {
        this.#letters = this.#letters.filter((letter) => letter.promptId !== promptId);
        for (const keeper of [kept, keptInTab]) keeper.set(NAME + promptId, null);
        this.#breaks.delete(promptId);
        this.onChange.tell();
    }
}

/** @param {Letter} letter */
function keep(letter) {
    // Bytes cannot be kept: a prompt that has some is in this tab alone.
    if (!letter.attachments.every((file) => "fileId" in file)) return;
    // Nor is one for whatever session this tab will get another's.
    if (letter.sessionId === "") return keptInTab.set(NAME + letter.promptId, JSON.stringify(letter));
    kept.set(NAME + letter.promptId, JSON.stringify(letter));
    keptInTab.set(NAME + letter.promptId, null);
}

/**
 * @param {string | null} text
 * @returns {Letter[]} none, if somebody else has written there
 */
function read(text) {
    try {
        const letter = JSON.parse(text ?? "");
        return typeof letter.promptId === "string" && Array.isArray(letter.attachments) ? [letter] : [];
    } catch {
        return [];
    }
}

/** There is no `crypto.randomUUID` over plain http. */
function promptId() {
    const bytes = crypto.getRandomValues(new Uint8Array(12));
    return `page_${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
