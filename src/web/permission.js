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
    const said = question.description || input.description;
    const description = typeof said === "string" ? said : "";
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
    const blocked = String(request.blocked_path ?? "").startsWith("/") ? plainPath(request.blocked_path) : "";
    const outside = blocked && blocked !== cwd && within(blocked, cwd) === blocked;
    return [
        h("h2", null, "Claude wants to use ", h("strong", null, name)),
        description && h("p", { class: "dim" }, description),
        reason && h("p", { class: "dim" }, reason),
        outside && h("p", { class: "dim" }, `Outside of where it may work: ${blocked}`),
        shownInput(toolName, input, description, cwd),
        // What refuses is as near as what allows.
        h("div", { class: "answers row wrap" },
            button("Allow once", () => void answer({ behavior: "allow" }), { class: "primary" }), deny, edit),
        denial,
        editing,
        always.length > 0 && h("div", { class: "row wrap" }, always),
    ].filter((part) => typeof part === "object");
}

/** @type {{[destination: string]: string}} */
const PLACES = {
    session: "in this session",
    localSettings: "in this project, for you",
    projectSettings: "in this project, for everybody",
    userSettings: "everywhere",
};

/**
 * What "always" would mean, in words.
 * @param {import("./wire.js").Suggestion} suggestion
 */
function spelled({ type, rules, behavior, mode, directories, destination }) {
    const place = destination ?? "session";
    const where = Object.hasOwn(PLACES, place) ? PLACES[place] : `in ${place}`;
    const named = (rules ?? []).map(({ toolName, ruleContent }) => toolName + (ruleContent ? `(${ruleContent})` : ""));
    if (type === "setMode") return `Allow, and ${allowsMode(mode ?? "")} ${where}`;
    if (type === "addDirectories") return `Always allow ${(directories ?? []).join(", ")} ${where}`;
    if (type === "addRules" && behavior !== "deny") return `Always allow ${named.join(", ")} ${where}`;
    return `Allow, and ${type} ${[...named, ...(directories ?? [])].join(", ")} ${where}`;
}

/** Of each tool that changes a file, the fields of which its change is made. @type {{[tool: string]: string[]}} */
const CHANGES = {
    Edit: ["file_path", "old_string", "new_string"],
    MultiEdit: ["file_path", "edits"],
    Write: ["file_path", "content"],
    NotebookEdit: ["notebook_path", "new_source"],
};

/** Those that say nothing where they are false. */
const OFF = new Set(["replace_all", "run_in_background"]);

/**
 * The input: a change of a file as such, all else field by field. What is not shown is what says nothing.
 * @param {string} toolName
 * @param {{[name: string]: any}} input
 * @param {string} description what is said of it already
 * @param {string} cwd
 */
function shownInput(toolName, input, description, cwd) {
    const change = shownChange(toolName, input, cwd);
    const done = new Set(change && CHANGES[toolName]);
    const fields = Object.entries(input).filter(([name, value]) =>
        !done.has(name) && !(value === false && OFF.has(name)) && !(name === "description" && description !== "" && value === description));
    const listed = fields.map(([name, value]) => {
        const text = typeof value === "string" ? value : JSON.stringify(value, null, 2);
        // A command needs no name.
        const named = name !== "command" && h("dt", { class: "dim small" }, name);
        return h("div", null, named, h("dd", null, h("pre", null, text)));
    });
    return h("div", { class: "input", tabindex: 0, role: "group", "aria-label": "Input" }, change,
        listed.length > 0 && h("dl", null, listed));
}

/**
 * Only where all of it is as expected: otherwise the fields are shown as they are.
 * @param {string} toolName
 * @param {{[name: string]: any}} input
 * @param {string} cwd
 */
function shownChange(toolName, input, cwd) {
    if (!Object.hasOwn(CHANGES, toolName)) return null;
    const fields = CHANGES[toolName] ?? [];
    const edits = toolName === "MultiEdit" ? input.edits : [input];
    const texts = fields.filter((name) => name !== "edits").map((name) => input[name]);
    const isText = (/** @type {unknown} */ value) => typeof value === "string";
    // Nothing that the difference does not show.
    const isEdit = (/** @type {any} */ edit) => isText(edit?.old_string) && isText(edit?.new_string) &&
        Object.entries(edit).every(([name, value]) =>
            ["old_string", "new_string"].includes(name) || (OFF.has(name) && value === false));
    if (!texts.every(isText) || !Array.isArray(edits) || (toolName === "MultiEdit" && !edits.every(isEdit))) return null;
    const changes = changesOf(toolName, input) ?? [];
    return [
        h("p", { class: "mono" }, within(texts[0], cwd)),
        changes.map(([before, after]) => {
            const rows = hunks(lineDiff(before, after));
            // Nothing but the last line's end.
            const same = rows.length === 0 && before !== after;
            return same ? h("p", { class: "dim" }, "Only the end of the last line changes.") : diff(rows, false);
        }),
    ];
}

/**
 * A path without `.` and `..`.
 * @param {string} path
 */
function plainPath(path) {
    /** @type {string[]} */
    const parts = [];
    for (const part of path.split("/")) {
        if (part === "..") parts.pop();
        else if (part !== "" && part !== ".") parts.push(part);
    }
    return `/${parts.join("/")}`;
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
