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
        // One that was answered elsewhere is another one, too: it is smaller.
        this.#settle(questions.map(({ requestId, resolved }) => requestId + (resolved ? "!" : "")).join(" "));
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
        try {
            return question.request ? make(question, answer, cwd) : bareCard(question, answer);
        } catch {
            return bareCard(question, answer);
        }
    }

    /**
     * @param {Question} question
     * @param {HTMLElement} card
     * @param {(answer: object) => Promise<void>} answer
     */
    async #fetch(question, card, answer) {
        const whole = await this.#app.fetchEvent(question.sessionId, question.seq);
        const note = card.querySelector("p");
        if (!whole?.request && note) note.textContent = "What it would do is too large to be shown, and cannot be had now.";
        if (!whole?.request || question.resolved) return;
        Object.assign(question, whole);
        const focused = card.contains(document.activeElement);
        const id = card.querySelector("h2")?.id ?? "";
        card.replaceChildren(...this.#parts(question, answer));
        /** @type {HTMLElement} */ (card.querySelector("h2")).id = id;
        if (focused) /** @type {HTMLElement | null} */ (card.querySelector("button"))?.focus();
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
 * Of a question of which it is not known what it is about.
 * @param {Question} question
 * @param {(answer: object) => Promise<void>} answer
 * @returns {HTMLElement[]}
 */
function bareCard({ toolName }, answer) {
    return [
        h("h2", null, "Claude wants to use ", h("strong", null, nameOf(toolName))),
        h("p", { class: "dim" }, "What it would do is large: it is being fetched."),
        h("div", { class: "answers row wrap" }, button("Deny", () => void answer({ behavior: "deny" }))),
    ];
}

/** @param {Question} question */
function told({ resolved, toolName, request }) {
    const name = request?.display_name ?? nameOf(toolName);
    return `${name}: ${resolved?.behavior === "allow" ? "allowed" : "denied"} elsewhere`;
}
