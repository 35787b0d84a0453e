// What Claude asks, pinned above the composer: permissions, questions, plans. The first answer of all clients counts.

import { planCard, questionCard } from "./questions.js";
import { button, byId, h, keep } from "./dom.js";
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
    #settling = 0;
    #app;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        byId("asking").addEventListener("keydown", (event) => {
            const presses = event.target instanceof HTMLButtonElement && [" ", "Enter"].includes(event.key);
            if (presses && (this.#settling || event.repeat)) event.preventDefault();
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
            card.replaceChildren(h("p", { class: "dim" }, told(question)));
        });
        section.hidden = questions.length === 0;
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
        const make = KINDS[question.toolName] ?? permissionCard;
        card.append(...make(question, answer));
        const heading = /** @type {HTMLElement} */ (card.querySelector("h2"));
        heading.id = `ask-${requestId}`;
        card.setAttribute("aria-labelledby", heading.id);
        return card;
    }
}

/** @param {Question} question */
function told({ resolved, toolName, request }) {
    const name = request.display_name ?? toolName;
    return `${name}: ${resolved?.behavior === "allow" ? "allowed" : "denied"} elsewhere (${resolved?.by})`;
}

/**
 * @param {Question} question
 * @param {(answer: object) => Promise<void>} answer
 * @returns {HTMLElement[]}
 */
function permissionCard(question, answer) {
    const { toolName, input, description, reason, request } = question;
    const suggestions = request.suppress_always_allow_rule ? [] : (question.suggestions ?? []);
    const name = request.display_name ?? toolName;
    const always = suggestions.map((suggestion) =>
        button(spelled(suggestion), () => void answer({ behavior: "allow", updatedPermissions: [suggestion] })));
    const why = h("input", { placeholder: "Why not? Claude reads it.", "aria-label": "Reason for Claude" });
    const denied = () => ({ behavior: "deny", ...(why.value.trim() && { message: why.value.trim() }) });
    const denial = h("form", { class: "row wrap", hidden: true }, why,
        h("button", { type: "submit", class: "danger" }, "Deny"),
        button("Deny and stop", () => void answer({ ...denied(), interrupt: true }), { class: "danger" }));
    denial.addEventListener("submit", (event) => {
        event.preventDefault();
        void answer(denied());
    });
    const json = h("textarea", { class: "mono", rows: 6, "aria-label": "Input as JSON", spellcheck: "false" });
    const problem = h("p", { class: "bad small", role: "alert" });
    const editing = h("form", { hidden: true }, json, problem,
        h("button", { type: "submit", class: "primary" }, "Allow with this input"));
    editing.addEventListener("submit", (event) => {
        event.preventDefault();
        const updatedInput = parsed(json.value);
        problem.textContent = updatedInput ? "" : "This is not a JSON object.";
        if (updatedInput) void answer({ behavior: "allow", updatedInput });
    });
    /**
     * @param {HTMLElement} shown
     * @param {HTMLElement} hidden
     * @param {HTMLElement} field
     */
    const toggle = (shown, hidden, field) => {
        hidden.hidden = true;
        shown.hidden = !shown.hidden;
        if (!shown.hidden) field.focus();
    };
    return [
        h("h2", null, "Claude wants to use ", h("strong", null, name)),
        description && h("p", { class: "dim" }, description),
        reason && h("p", { class: "dim" }, reason),
        request.blocked_path && h("p", { class: "dim" }, `Outside of where it may work: ${request.blocked_path}`),
        shownInput(input),
        h("div", { class: "row wrap" },
            button("Allow once", () => void answer({ behavior: "allow" }), { class: "primary" }),
            always,
            button("Deny…", () => toggle(denial, editing, why)),
            button("Edit…", () => {
                json.value ||= JSON.stringify(input, null, 2);
                toggle(editing, denial, json);
            }, { class: "quiet" })),
        denial,
        editing,
    ].filter((part) => typeof part === "object");
}

/**
 * What "always" would mean, in words.
 * @param {import("./wire.js").Suggestion} suggestion
 */
function spelled({ type, rules, behavior, mode, directories, destination }) {
    const where = {
        session: "in this session",
        localSettings: "in this project, for you",
        projectSettings: "in this project, for everybody",
        userSettings: "everywhere",
    }[destination ?? "session"] ?? `in ${destination}`;
    const named = (rules ?? []).map(({ toolName, ruleContent }) => toolName + (ruleContent ? `(${ruleContent})` : ""));
    if (type === "setMode") return `Allow, and mode “${mode}” ${where}`;
    if (type === "addDirectories") return `Always allow ${(directories ?? []).join(", ")} ${where}`;
    if (type === "addRules" && behavior !== "deny") return `Always allow ${named.join(", ")} ${where}`;
    return `Allow, and ${type} ${[...named, ...(directories ?? [])].join(", ")} ${where}`;
}

/** @param {{[name: string]: any}} input */
function shownInput(input) {
    const fields = Object.entries(input).map(([name, value]) => {
        const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
        return h("div", null, h("dt", { class: "dim small" }, name), h("dd", null, h("pre", null, text)));
    });
    return h("dl", { class: "input", tabindex: 0, "aria-label": "Input" }, fields);
}

/** @param {string} text */
function parsed(text) {
    try {
        const value = JSON.parse(text);
        return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
    } catch {
        return null;
    }
}
