// Two tools by which Claude asks a person something: questions with choices, and plans.

import { h } from "./dom.js";

/** @typedef {import("./conversations.js").Question} Question */
/** @typedef {(answer: object) => Promise<void>} Answer */

/**
 * AskUserQuestion: one or several questions, each with choices of which one or several hold, or a text.
 * @param {Question} question
 * @param {Answer} answer
 */
export function questionCard({ input, requestId }, answer) {
    /** @type {{question: string, header?: string, multiSelect?: boolean, options?: {label: string, description?: string}[]}[]} */
    const asked = Array.isArray(input.questions) ? input.questions : [];
    const fields = asked.map(({ question, header, multiSelect, options }, at) => {
        const type = multiSelect ? "checkbox" : "radio";
        const name = `${requestId}-${at}`;
        const choices = (options ?? []).map(({ label, description }) => h("label", { class: "choice" },
            h("input", { type, name, value: label }), h("span", null, label, description && h("span", { class: "dim small" }, ` ${description}`))));
        const other = h("input", { type: "text", placeholder: "Something else", "aria-label": `Another answer: ${question}` });
        const field = h("fieldset", { class: "choices" }, h("legend", null, header && h("strong", null, `${header} `), question), choices, other);
        // Who types means the text, and not what was chosen before.
        other.addEventListener("input", () => {
            if (!multiSelect) field.querySelectorAll("input").forEach((input) => (input.checked = false));
        });
        field.addEventListener("change", (event) => {
            if (event.target !== other && !multiSelect) other.value = "";
        });
        const given = () => {
            const chosen = [...field.querySelectorAll("input")].filter((input) => input.checked).map((input) => input.value);
            if (other.value.trim()) chosen.push(other.value.trim());
            return chosen.join(", ");
        };
        return { question, field, given };
    });
    const problem = h("p", { class: "bad small", role: "alert" });
    const form = h("form", { onsubmit: (/** @type {Event} */ event) => {
        event.preventDefault();
        const missing = fields.find(({ given }) => given() === "");
        problem.textContent = missing ? `Not answered: ${missing.question}` : "";
        if (missing) return void missing.field.querySelector("input")?.focus();
        const answers = Object.fromEntries(fields.map(({ question, given }) => [question, given()]));
        void answer({ behavior: "allow", updatedInput: { ...input, answers } });
    } }, fields.map(({ field }) => field), problem, h("div", { class: "row wrap" },
        h("button", { type: "submit", class: "primary" }, "Answer"),
        h("button", { type: "button", onclick: () => void answer({ behavior: "deny", message: "The user does not want to answer." }) }, "Do not answer")));
    return [h("h2", null, "Claude asks"), form];
}

/**
 * ExitPlanMode: a plan to approve, or to send back.
 * @param {Question} question
 * @param {Answer} answer
 */
export function planCard({ input, suggestions }, answer) {
    const plan = h("div", { class: "plan markdown", tabindex: 0, role: "group", "aria-label": "The plan" });
    const text = typeof input.plan === "string" ? input.plan : "";
    if (text) {
        plan.textContent = text;
        // The conversation's own markdown: it cannot be used before it is there.
        void import("./conversation/markdown.js").then(({ renderMarkdown }) => plan.replaceChildren(renderMarkdown(text)));
    } else plan.textContent = "The plan is in Claude's message above.";
    const why = h("input", { type: "text", placeholder: "What should be different?", "aria-label": "What should be different" });
    const modes = (suggestions ?? []).filter(({ type }) => type === "setMode");
    return [
        h("h2", null, "Claude has a plan"),
        plan,
        h("form", { onsubmit: (/** @type {Event} */ event) => {
            event.preventDefault();
            void answer({ behavior: "deny", message: why.value.trim() || "The user wants to go on planning." });
        } }, why, h("div", { class: "row wrap" },
            h("button", { type: "button", class: "primary", onclick: () => void answer({ behavior: "allow" }) }, "Approve the plan"),
            modes.map((mode) => h("button", {
                type: "button",
                onclick: () => void answer({ behavior: "allow", updatedPermissions: [mode] }),
            }, `Approve, and mode “${mode.mode}”`)),
            h("button", { type: "submit" }, "Keep planning"))),
    ];
}
