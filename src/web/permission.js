// A permission that Claude asks for: what it is about to do, and what may be answered.

import { hunks, lineDiff } from "./conversation/diff.js";
import { changesOf, diff } from "./conversation/tool.js";
import { nameOf, within } from "./conversation/words.js";
import { button, h } from "./dom.js";
import { allowsMode } from "./words.js";

/**
 * @param {import("./conversations.js").Question} question
 * @param {(answer: object) => Promise<void>} answer
 * @param {string} cwd where Claude works
 * @returns {HTMLElement[]}
 */
export function permissionCard(question, answer, cwd) {
    const { toolName, input, reason, request } = question;
    const description = question.description ?? input.description;
    const suggestions = request.suppress_always_allow_rule ? [] : (question.suggestions ?? []);
    const name = request.display_name ?? nameOf(toolName);
    const always = suggestions.map((suggestion) =>
        button(spelled(suggestion), () => void answer({ behavior: "allow", updatedPermissions: [suggestion] })));
    const why = h("input", { type: "text", placeholder: "Why not? Claude reads it.", "aria-label": "Reason for Claude" });
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
     * Opens one form and closes the other.
     * @param {HTMLElement} form
     * @param {HTMLElement} field
     */
    const toggle = (form, field) => {
        for (const other of [denial, editing]) other.hidden = other !== form || !other.hidden;
        if (form.hidden) return;
        field.focus();
        form.scrollIntoView({ block: "nearest" });
    };
    const deny = button("Deny…", () => toggle(denial, why));
    const edit = button("Edit…", () => {
        json.value ||= JSON.stringify(input, null, 2);
        toggle(editing, json);
    }, { class: "quiet" });
    // It closes the form, and does not stop Claude: what was written stays.
    const closes = (/** @type {HTMLElement} */ form, /** @type {HTMLElement} */ opener) =>
        form.addEventListener("keydown", (event) => {
            if (event.key !== "Escape" || event.isComposing) return;
            event.preventDefault();
            form.hidden = true;
            opener.focus();
        });
    closes(denial, deny);
    closes(editing, edit);
    const outside = request.blocked_path && within(request.blocked_path, cwd) === request.blocked_path;
    return [
        h("h2", null, "Claude wants to use ", h("strong", null, name)),
        typeof description === "string" && description && h("p", { class: "dim" }, description),
        reason && h("p", { class: "dim" }, reason),
        outside && h("p", { class: "dim" }, `Outside of where it may work: ${request.blocked_path}`),
        shownInput(toolName, input, description, cwd),
        // What refuses is as near as what allows.
        h("div", { class: "answers row wrap" },
            button("Allow once", () => void answer({ behavior: "allow" }), { class: "primary" }), deny, edit),
        denial,
        editing,
        always.length > 0 && h("div", { class: "row wrap" }, always),
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
    if (type === "setMode") return `Allow, and ${allowsMode(mode ?? "")} ${where}`;
    if (type === "addDirectories") return `Always allow ${(directories ?? []).join(", ")} ${where}`;
    if (type === "addRules" && behavior !== "deny") return `Always allow ${named.join(", ")} ${where}`;
    return `Allow, and ${type} ${[...named, ...(directories ?? [])].join(", ")} ${where}`;
}

/** Fields that are shown as what they do to a file. */
const CHANGES = new Set(["file_path", "notebook_path", "old_string", "new_string", "edits", "content", "new_source"]);

/**
 * The input: changes of a file as such, all else field by field. Nothing of it is left out but what says nothing.
 * @param {string} toolName
 * @param {{[name: string]: any}} input
 * @param {unknown} description what is said of it already
 * @param {string} cwd
 */
function shownInput(toolName, input, description, cwd) {
    const changes = changesOf(toolName, input);
    const path = input.file_path ?? input.notebook_path;
    const shown = changes && [
        h("p", { class: "mono" }, within(String(path ?? ""), cwd)),
        changes.map(([before, after]) => diff(hunks(lineDiff(before, after)), false)),
    ];
    const fields = Object.entries(input).filter(([name, value]) =>
        !(changes && CHANGES.has(name)) && value !== false && !(name === "description" && value === description));
    const listed = fields.map(([name, value]) => {
        const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
        // A command needs no name.
        const named = name !== "command" && h("dt", { class: "dim small" }, name);
        return h("div", null, named, h("dd", null, h("pre", null, text)));
    });
    return h("div", { class: "input", tabindex: 0, role: "group", "aria-label": "Input" }, shown,
        listed.length > 0 && h("dl", null, listed));
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
