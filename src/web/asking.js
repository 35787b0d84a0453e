// What Claude asks, pinned above the composer: permissions, questions, plans. The first answer of all clients counts.

import { nameOf } from "./conversation/words.js";
import { button, byId, h, keep } from "./dom.js";
import { permissionCard } from "./permission.js";
import { planCard, questionCard } from "./questions.js";
import { complain } from "./toasts.js";

/** An answer of somebody else stays visible for so long. */
const RESOLVED_MS = 6_000;

/** When cards have come, gone or moved, what is pressed within this time was meant for what was there before. */
const SETTLE_MS = 400;

/** @typedef {import("./conversations.js").Question} Question */

/** Tools by which Claude asks a person. @type {{[tool: string]: typeof permissionCard}} */
const KINDS = { AskUserQuestion: questionCard, ExitPlanMode: planCard };

export class Asking {
    /** Answered from here. @type {Set<string>} */
    #mine = new Set();
    /** A card that was answered here had the focus: what comes next gets it. */
    #answered = false;
    /** The cards that are there, by their keys. */
    #cards = "";
    #first = "";
    #settling = 0;
    #app;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        byId("asking").addEventListener("keydown", (event) => {
            const presses = event.target instanceof HTMLButtonElement && [" ", "Enter"].includes(event.key);
            if (presses && (this.#settling || event.repeat)) event.preventDefault();
            // What is written there is not thrown away with Claude's turn.
            const { target } = event;
            const writes = target instanceof HTMLTextAreaElement || (target instanceof HTMLInputElement && target.type === "text");
            if (event.key === "Escape" && writes && target.value !== "") event.preventDefault();
        });
        app.conversations.onSwitch.listen(() => this.#draw());
        app.conversations.onChange.listen((conversation) => {
            if (conversation === app.conversations.current) this.#draw();
        });
    }

    #draw() {
        const conversation = this.#app.conversations.current;
        if (conversation) {
            for (const [id, { resolved, sessionId }] of conversation.questions) {
                if (!resolved) continue;
                if (resolved.behavior === "cancelled" || this.#mine.has(id)) conversation.questions.delete(id);
                else setTimeout(() => this.#drop(sessionId, id), RESOLVED_MS);
            }
        }
        const section = byId("asking");
        const questions = [...(conversation?.questions.values() ?? [])];
        const focused = section.contains(document.activeElement);
        keep(section, questions, ({ requestId }) => requestId, (question) => this.#make(question), (card, question) => {
            if (!question.resolved || card.dataset.resolved === "true") return;
            card.dataset.resolved = "true";
            card.replaceChildren(h("p", { class: "dim", title: question.resolved.by }, told(question)));
        });
        section.hidden = questions.length === 0;
        const first = questions[0]?.requestId ?? "";
        if (first !== this.#first) [this.#first, section.scrollTop] = [first, 0];
        // One that was answered elsewhere, or fetched, is another one, too: it has another size.
        const kind = (/** @type {Question} */ { resolved, request }) => (resolved ? "!" : request ? "" : "?");
        this.#settle(questions.map((question) => question.requestId + kind(question)).join(" "));
        if (section.querySelector("[inert]")) return;
        if (document.activeElement === document.body) {
            const next = /** @type {HTMLElement | null} */ (section.querySelector("button.primary")) ?? byId("message");
            if (this.#answered) next.focus();
            // Who was typing goes on for a moment: that must neither answer another question, nor be sent.
            else if (focused) (section.hidden ? byId("log") : section).focus();
        }
        this.#answered = false;
    }

    /** @param {string} cards */
    #settle(cards) {
        if (cards === this.#cards) return;
        this.#cards = cards;
        const { classList } = byId("asking");
        classList.add("settling");
        clearTimeout(this.#settling);
        this.#settling = setTimeout(() => {
            this.#settling = 0;
            classList.remove("settling");
        }, SETTLE_MS);
    }

    /**
     * @param {string} sessionId
     * @param {string} id
     */
    #drop(sessionId, id) {
        const conversation = this.#app.conversations.get(sessionId);
        if (conversation?.questions.get(id)?.resolved && conversation.questions.delete(id)) this.#draw();
    }

    /**
     * Whatever Claude sends: one question must not take the others down.
     * @param {Question} question
     * @param {(answer: object) => Promise<void>} answer
     */
    #parts(question, answer) {
        const make = (Object.hasOwn(KINDS, question.toolName) && KINDS[question.toolName]) || permissionCard;
        const cwd = this.#app.conversations.get(question.sessionId)?.summary?.cwd ?? "";
        if (!question.request) return bareCard(question, answer, "What it would do is large: it is being fetched.");
        try {
            return make(question, answer, cwd);
        } catch {
            return bareCard(question, answer, "What it would do cannot be shown.");
        }
    }

    /**
     * @param {Question} asked
     * @param {HTMLElement} card
     * @param {(answer: object) => Promise<void>} answer
     */
    async #fetch(asked, card, answer) {
        const whole = await this.#app.fetchEvent(asked.sessionId, asked.seq);
        // It may have come again, and been answered meanwhile.
        const question = this.#app.conversations.get(asked.sessionId)?.questions.get(asked.requestId);
        if (!question || question.resolved || !card.isConnected || card.dataset.resolved) return;
        const focused = card.contains(document.activeElement);
        const id = card.querySelector("h2")?.id ?? "";
        if (whole?.request) {
            Object.assign(question, whole);
            card.replaceChildren(...this.#parts(question, answer));
        } else {
            const again = button("Try again", () => void this.#fetch(asked, card, answer));
            card.replaceChildren(...bareCard(question, answer, "What it would do is large, and cannot be had now."), again);
        }
        /** @type {HTMLElement} */ (card.querySelector("h2")).id = id;
        // What is under the finger is another button now, and another one would have the focus.
        if (focused) byId("asking").focus();
        this.#draw();
    }

    /** @param {Question} question */
    #make(question) {
        const { requestId, sessionId } = question;
        const card = h("article", { class: "card" });
        const answer = async (/** @type {object} */ given) => {
            this.#answered ||= card.contains(document.activeElement);
            card.toggleAttribute("inert", true);
            this.#mine.add(requestId);
            try {
                await this.#app.connection.request("answerPermission", { sessionId, requestId, ...given });
            } catch (error) {
                const { code, details } = /** @type {import("./connection.js").WireError} */ (error);
                this.#mine.delete(requestId);
                card.toggleAttribute("inert", false);
                if (code !== "stale_request") return complain(error);
                question.resolved ??= { behavior: details.behavior ?? "cancelled", by: details.by ?? "somebody else" };
                this.#draw();
            }
        };
        card.append(...this.#parts(question, answer));
        // One that is too large for the socket is fetched; until then it can be refused.
        if (!question.request) void this.#fetch(question, card, answer);
        const heading = /** @type {HTMLElement} */ (card.querySelector("h2"));
        heading.id = `ask-${requestId}`;
        card.setAttribute("aria-labelledby", heading.id);
        return card;
    }
}

/**
 * Of a question of which it is not known what it is about: it can be refused.
 * @param {Question} question
 * @param {(answer: object) => Promise<void>} answer
 * @param {string} why
 * @returns {HTMLElement[]}
 */
function bareCard({ toolName }, answer, why) {
    return [
        h("h2", null, "Claude wants to use ", h("strong", null, nameOf(toolName))),
        h("p", { class: "dim" }, why),
        h("div", { class: "answers row wrap" }, button("Deny", () => void answer({ behavior: "deny" }))),
    ];
}

/** @param {Question} question */
function told({ resolved, toolName, request }) {
    const name = request?.display_name ?? nameOf(toolName);
    return `${name}: ${resolved?.behavior === "allow" ? "allowed" : "denied"} elsewhere`;
}
