// What tells a person who looks elsewhere: the tab's title and icon, and a notification where the browser lets one.

import { byId } from "./dom.js";
import { STATES, stateOf, titleOf } from "./words.js";

/** @typedef {import("./wire.js").Summary} Summary */

/** Before the title. @type {{[state: string]: string}} */
const MARKS = { waiting: "❓ ", busy: "… ", failed: "✕ " };

/** Drawn over the icon. @type {{[state: string]: string}} */
const COLOURS = { waiting: "#e0a030", busy: "#4a90d9", failed: "#d04030" };

export class Attention {
    /** How each session was. @type {Map<string, string>} */
    #states = new Map();
    #icon = "";
    #app;
    #link = /** @type {HTMLLinkElement} */ (byId("favicon"));
    #plain = this.#link.href;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        app.conversations.onSummary.listen((summary) => this.#summary(summary));
        app.conversations.onSwitch.listen(() => this.#draw());
        const allow = byId("allow-notices");
        // Browsers have them in secure contexts only, and ask only when a person has clicked.
        const can = isSecureContext && "Notification" in window;
        allow.hidden = !can || Notification.permission !== "default";
        allow.addEventListener("click", async () => {
            await Notification.requestPermission();
            allow.hidden = true;
        });
        void fetch(this.#plain).then(async (response) => {
            this.#icon = response.ok ? await response.text() : "";
            this.#draw();
        }, () => undefined);
    }

    /** @param {Summary} summary */
    #summary(summary) {
        const { sessionId, queue, deleted } = summary;
        const before = this.#states.get(sessionId);
        const state = stateOf(summary);
        if (deleted) this.#states.delete(sessionId);
        else this.#states.set(sessionId, state);
        this.#draw();
        if (!before || before === state) return;
        const worked = before === "busy" || before === "waiting";
        if (state === "waiting") this.#notify(summary, "Claude waits for your answer");
        else if (state === "failed") this.#notify(summary, "Claude failed");
        else if (worked && state === "idle" && queue.length === 0) this.#notify(summary, "Claude is done");
    }

    #draw() {
        const summary = this.#app.conversations.current?.summary;
        // Of those that are not shown, one that asks is told of, too.
        const asked = [...this.#states.values()].includes("waiting");
        const state = asked ? "waiting" : summary ? stateOf(summary) : "";
        const title = (MARKS[state] ?? "") + (summary ? titleOf(summary) : "Claude");
        if (document.title !== title) document.title = title;
        const colour = COLOURS[state];
        const dot = `<circle cx="25" cy="25" r="7" fill="${colour}" stroke="#fff" stroke-width="1.5"/></svg>`;
        const drawn = encodeURIComponent(this.#icon.replace("</svg>", dot));
        const href = colour && this.#icon ? `data:image/svg+xml,${drawn}` : this.#plain;
        if (this.#link.href !== href) this.#link.href = href;
    }

    /**
     * @param {Summary} summary
     * @param {string} text
     */
    #notify(summary, text) {
        const { sessionId } = summary;
        const looked = !document.hidden && document.hasFocus() && sessionId === this.#app.conversations.current?.id;
        if (looked || !isSecureContext || !("Notification" in window) || Notification.permission !== "granted") return;
        try {
            const body = `${titleOf(summary)} · ${STATES[stateOf(summary)]}`;
            const notice = new Notification(text, { body, tag: sessionId });
            notice.addEventListener("click", () => {
                focus();
                this.#app.open(sessionId);
                notice.close();
            });
        } catch {
            // Phones have them for service workers only.
        }
    }
}
