// What a tool does, in one line: its name as people say it, and what it is done to.

import { plural } from "./format.js";

/** @type {Record<string, string>} */
const NAMES = {
    Task: "Agent", TodoWrite: "To-do list", ExitPlanMode: "Plan", AskUserQuestion: "Question", MultiEdit: "Edit",
    NotebookEdit: "Edit", LS: "List", WebFetch: "Fetch", WebSearch: "Web search", web_search: "Web search",
    BashOutput: "Output", KillShell: "Stop", ToolSearch: "Tool search", TaskCreate: "To-do", TaskUpdate: "To-do",
};

/** Fields that tell most, the best first. */
const FIELDS = [
    "file_path", "notebook_path", "command", "pattern", "query", "url", "description", "subject", "skill", "path", "prompt",
];

/** @param {string} name */
export function nameOf(name) {
    const mcp = /^mcp__(.+?)__(.+)$/.exec(name);
    if (mcp) return `${mcp[1]}: ${mcp[2].replaceAll("_", " ")}`;
    return (Object.hasOwn(NAMES, name) && NAMES[name]) || name || "Tool";
}

/**
 * @param {string} name
 * @param {any} input
 * @param {string} [cwd]
 * @returns {string}
 */
export function aboutOf(name, input, cwd = "") {
    if (input === null || typeof input !== "object") return "";
    if (name === "TodoWrite" && Array.isArray(input.todos)) {
        const done = input.todos.filter((/** @type {any} */ todo) => todo?.status === "completed").length;
        return `${done} of ${input.todos.length} done`;
    }
    if (name === "AskUserQuestion" && Array.isArray(input.questions)) {
        const [first, ...more] = input.questions.map((/** @type {any} */ one) => String(one?.question ?? ""));
        return more.length ? `${first} (and ${more.length} more)` : (first ?? "");
    }
    if (name === "TaskUpdate") return `${input.taskId ?? ""} ${String(input.status ?? "").replaceAll("_", " ")}`.trim();
    if ((name === "Task" || name === "Agent") && input.description) return line(input.description);
    const field = FIELDS.find((field) => typeof input[field] === "string" && input[field]);
    if (!field) return "";
    const value = line(input[field]);
    if (!field.endsWith("path")) return value;
    const edits = Array.isArray(input.edits) && input.edits.length > 1 ? ` (${plural(input.edits.length, "change")})` : "";
    return within(value, cwd) + edits;
}

/**
 * A path as seen from the directory that Claude works in.
 * @param {string} path
 * @param {string} cwd
 */
export function within(path, cwd) {
    return cwd && path.startsWith(`${cwd}/`) ? path.slice(cwd.length + 1) : path;
}

/** @param {any} text */
function line(text) {
    const first = String(text).trim().split("\n", 1)[0];
    return first.length > 200 ? `${first.slice(0, 200)}…` : first;
}
