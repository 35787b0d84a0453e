// Completion in the composer: slash commands at the beginning, files behind an `@`.

import { byId, h } from "./dom.js";

/** Claude is not asked at each key. */
const TYPING_MS = 120;

/** Where Claude has found no file yet. */
const AGAIN_MS = 700;
const TRIES_MAX = 5;

const SHOWN_MAX = 20;

/** What is longer is no path. */
const QUERY_CHARS_MAX = 200;

/** @typedef {{text: string, label: string, hint?: string, goesOn?: boolean}} Choice `goesOn`: more may follow */

export class Completion {
    /** @type {Choice[]} */
    #choices = [];
    #at = 0;
    /** What is replaced: from here to the caret. */
    #from = 0;
    #timer = 0;
    #asked = 0;
    #box = byId("completions");
    #app;
    #message;

    /**
     * @param {import("./main.js").App} app
     * @param {HTMLTextAreaElement} message
     */
    constructor(app, message) {
        this.#app = app;
        this.#message = message;
        message.setAttribute("aria-autocomplete", "list");
        message.setAttribute("aria-controls", "completions");
        message.addEventListener("blur", () => setTimeout(() => this.close(), 150));
    }

    get open() {
        return this.#choices.length > 0;
    }

    close() {
        clearTimeout(this.#timer);
        this.#asked++;
        this.#show([]);
    }

    /** After each change of the text or the caret. */
    update() {
        clearTimeout(this.#timer);
        const { value, selectionStart, selectionEnd } = this.#message;
        const before = value.slice(0, selectionStart);
        const conversation = this.#app.conversations.current;
        if (selectionStart !== selectionEnd || !conversation) return this.close();
        const command = /^\/(\S*)$/.exec(before);
        if (command) {
            this.#asked++;
            this.#from = 0;
            return this.#show(commandsFor(conversation.commands ?? [], command[1] ?? ""));
        }
        // One with white space in its name stands in quotes.
        const file = /(?:^|\s)(@(?:"([^"]*)|(\S*)))$/.exec(before);
        const query = file?.[2] ?? file?.[3] ?? "";
        // Behind a quote that is not closed may be anything.
        if (!file || query.length > QUERY_CHARS_MAX) return this.close();
        const asked = ++this.#asked;
        const find = async (/** @type {number} */ tries) => {
            const wanted = { sessionId: conversation.id, query };
            const got = await this.#app.connection.request("fileSuggestions", wanted).catch(() => null);
            if (asked !== this.#asked) return;
            this.#from = selectionStart - (file[1] ?? "").length;
            /** @type {{path: string}[]} */
            const suggestions = got?.suggestions ?? [];
            this.#show(suggestions.map(({ path }) => ({ text: named(path), label: path, goesOn: path.endsWith("/") })));
            // Claude may still be looking through the directory.
            if (suggestions.length === 0 && tries > 1) this.#timer = setTimeout(() => void find(tries - 1), AGAIN_MS);
        };
        this.#timer = setTimeout(() => void find(TRIES_MAX), TYPING_MS);
    }

    /** @param {KeyboardEvent} event Returns whether it was meant for this. */
    key(event) {
        if (!this.open || event.isComposing) return false;
        const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
        const takes = event.key === "Tab" || (event.key === "Enter" && !event.shiftKey && !this.#isWhole());
        if (step) this.#select((this.#at + step + this.#choices.length) % this.#choices.length);
        else if (event.key === "Escape") this.close();
        else if (takes) this.#take(this.#at);
        else return false;
        event.preventDefault();
        return true;
    }

    /** Enter sends what is written out already. */
    #isWhole() {
        return this.#message.value.slice(this.#from, this.#message.selectionStart) === this.#choices[this.#at]?.text;
    }

    /** @param {number} at */
    #take(at) {
        const choice = this.#choices[at];
        if (!choice) return;
        const text = choice.goesOn ? choice.text : `${choice.text} `;
        this.#message.setRangeText(text, this.#from, this.#message.selectionStart, "end");
        this.close();
        this.#message.dispatchEvent(new Event("input", { bubbles: true }));
        this.#message.focus();
    }

    /** @param {number} at */
    #select(at) {
        this.#at = at;
        [...this.#box.children].forEach((element, index) => {
            element.setAttribute("aria-selected", String(index === at));
            if (index === at) element.scrollIntoView({ block: "nearest" });
        });
        this.#message.setAttribute("aria-activedescendant", `completion-${at}`);
    }

    /** @param {Choice[]} choices */
    #show(choices) {
        if (choices.length === 0 && this.#choices.length === 0) return;
        this.#choices = choices.slice(0, SHOWN_MAX);
        this.#box.replaceChildren(...this.#choices.map(({ label, hint }, at) => h("div", {
            role: "option",
            id: `completion-${at}`,
            // Before the text loses the focus.
            onmousedown: (/** @type {Event} */ event) => {
                event.preventDefault();
                this.#take(at);
            },
        }, h("span", { class: "mono" }, label), " ", hint && h("span", { class: "dim small clip" }, hint))));
        this.#box.hidden = this.#choices.length === 0;
        if (this.#choices.length > 0) this.#select(0);
        else this.#message.removeAttribute("aria-activedescendant");
    }
}

/**
 * A path as Claude finds it in a prompt; a directory's quotes stay open for what is in it.
 * @param {string} path
 */
function named(path) {
    if (!/\s/.test(path)) return `@${path}`;
    return path.endsWith("/") ? `@"${path}` : `@"${path}"`;
}

/**
 * Those that begin with it, then those that have it anywhere.
 * @param {import("./wire.js").Command[]} commands
 * @param {string} typed
 * @returns {Choice[]}
 */
function commandsFor(commands, typed) {
    const query = typed.toLowerCase();
    const found = commands.filter(({ name }) => name.toLowerCase().includes(query));
    const begins = (/** @type {{name: string}} */ { name }) => Number(name.toLowerCase().startsWith(query));
    found.sort((a, b) => begins(b) - begins(a));
    return found.map(({ name, description, argumentHint }) => ({
        text: `/${name}`,
        label: `/${name}${argumentHint && argumentHint.length > 0 ? ` ${argumentHint}` : ""}`,
        hint: description,
    }));
}
