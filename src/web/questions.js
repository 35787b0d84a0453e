// Two tools by which Claude asks a person something: questions with choices, and plans.

import { button, h } from "./dom.js";
import { allowsMode } from "./words.js";

const NO_ANSWER = "The user does not want to answer.";

/** @typedef {import("./conversations.js").Question} Question */
/** @typedef {(answer: object) => Promise<void>} Answer */
/** @typedef {{label: string, description?: string}} Option */
/** @typedef {{question: string, header?: string, multiSelect?: boolean, options?: Option[]}} Asked */

/**
 * AskUserQuestion: one or several questions, each with choices of which one or several hold, or a text.
 * @param {Question} question
 * @param {Answer} answer
 */
export function questionCard({ input, requestId }, answer) {
    /** @type {Asked[]} */
    const asked = Array.isArray(input.questions) ? input.questions : [];
    const fields = asked.map(({ question, header, multiSelect, options }, at) => {
        const type = multiSelect ? "checkbox" : "radio";
        const name = `${requestId}-${at}`;
        const choices = (options ?? []).map(({ label, description }) => h("label", { class: "choice" },
            h("input", { type, name, value: label }),
            h("span", null, label, description && h("span", { class: "more dim small" }, description))));
        const other = h("input", { type: "text", placeholder: "Something else", "aria-label": `Another answer: ${question}` });
        const field = h("fieldset", { class: "choices" },
            h("legend", null, header && h("strong", null, `${header} `), question), choices, other);
        // Who types means the text, and not what was chosen before.
        other.addEventListener("input", () => {
            if (!multiSelect) field.querySelectorAll("input").forEach((input) => (input.checked = false));
        });
        field.addEventListener("change", (event) => {
            if (event.target !== other && !multiSelect) other.value = "";
        });
        const given = () => {
            const checked = [...field.querySelectorAll("input")].filter((input) => input.checked);
            const chosen = checked.map((input) => input.value);
            if (other.value.trim()) chosen.push(other.value.trim());
            return chosen.join(", ");
        };
        return { question, field, given };
    });
    const problem = h("p", { class: "bad small", role: "alert" });
    const form = h("form", null, fields.map(({ field }) => field), problem, h("div", { class: "answers row wrap" },
        h("button", { type: "submit", class: "primary" }, "Answer"),
        button("Do not answer", () => void answer({ behavior: "deny", message: NO_ANSWER }))));
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        const missing = fields.find(({ given }) => given() === "");
        problem.textContent = missing ? `Not answered: ${missing.question}` : "";
        if (missing) return void missing.field.querySelector("input")?.focus();
        const answers = Object.fromEntries(fields.map(({ question, given }) => [question, given()]));
        void answer({ behavior: "allow", updatedInput: { ...input, answers } });
    });
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
        const drawn = import("./conversation/markdown.js");
        void drawn.then(({ renderMarkdown }) => plan.replaceChildren(renderMarkdown(text)));
    } else plan.textContent = "The plan is in Claude's message above.";
    const why = h("input", { type: "text", placeholder: "What should be different?", "aria-label": "What should be different" });
    const modes = (suggestions ?? []).filter(({ type }) => type === "setMode");
    const form = h("form", null, plan, why, h("div", { class: "answers row wrap" },
        button("Approve the plan", () => void answer({ behavior: "allow" }), { class: "primary" }),
        h("button", { type: "submit" }, "Keep planning")),
    modes.length > 0 && h("div", { class: "row wrap" }, modes.map((mode) => button(
        `Approve, and ${allowsMode(mode.mode ?? "")}`,
        () => void answer({ behavior: "allow", updatedPermissions: [mode] })))));
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        void answer({ behavior: "deny", message: why.value.trim() || "The user wants to go on planning." });
    });
    return [h("h2", null, "Claude has a plan"), form];
}
