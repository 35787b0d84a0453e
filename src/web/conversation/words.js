// Numbers, tools and troubles as people call them.

/** @param {number} ms */
export function duration(ms) {
    if (ms < 950) return `${Math.round(ms)} ms`;
    const seconds = ms / 1000;
    if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
    if (seconds < 59.5) return `${Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    if (seconds < 600) return `${Math.floor(Math.round(seconds) / 60)} min ${Math.round(seconds) % 60} s`;
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

/** @param {number} dollars */
export function money(dollars) {
    return `$${dollars.toFixed(dollars < 0.1 ? 4 : 2)}`;
}

/** @param {number} number of tokens, lines, characters */
export function count(number) {
    if (number < 1000) return String(number);
    if (number < 999_500) return `${(number / 1000).toFixed(number < 9950 ? 1 : 0)}k`;
    return `${(number / 1_000_000).toFixed(1)}M`;
}

/** @param {number} bytes */
export function size(bytes) {
    if (bytes < 1000) return `${bytes} bytes`;
    if (bytes < 999_500) return `${Math.round(bytes / 1000)} kB`;
    return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

/**
 * @param {number} number
 * @param {string} one
 * @param {string} [many]
 */
export function plural(number, one, many = `${one}s`) {
    return `${number} ${number === 1 ? one : many}`;
}

/**
 * As much of a long text as is shown at first. Neither very many lines nor a very long one make a page slow.
 * @param {string} text
 * @param {number} [linesMax]
 * @param {number} [charsMax]
 */
export function cut(text, linesMax = 200, charsMax = 16_000) {
    let end = -1;
    for (let lines = 0; lines < linesMax; lines++) {
        end = text.indexOf("\n", end + 1);
        if (end < 0 || end > charsMax) break;
    }
    if (end >= 0 && end <= charsMax) return text.slice(0, end);
    return text.length > charsMax ? text.slice(0, charsMax) : text;
}

/** @type {Record<string, string>} */
const NAMES = {
    Task: "Agent", TodoWrite: "To-do list", ExitPlanMode: "Plan", AskUserQuestion: "Question", MultiEdit: "Edit",
    NotebookEdit: "Edit", LS: "List", WebFetch: "Fetch", WebSearch: "Web search", web_search: "Web search",
    BashOutput: "Output", KillShell: "Stop", ToolSearch: "Tool search", TaskCreate: "To-do", TaskUpdate: "To-do",
};

/** Fields that tell most, the best first. */
const FIELDS = [
    "file_path", "notebook_path", "command", "pattern", "query", "url", "description", "subject", "skill", "path",
    "prompt",
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
    const edits = Array.isArray(input.edits) ? input.edits.length : 0;
    return within(value, cwd) + (edits > 1 ? ` (${edits} changes)` : "");
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

/** @type {Record<string, string>} */
const TITLES = {
    not_logged_in: "Claude is not logged in",
    bad_key: "The key or login is refused",
    account_refused: "The account is refused",
    billing: "The account has to be paid for",
    api_rate_limited: "The limit is used up",
    no_network: "No connection to the API",
    model_refused: "This model is not available",
    overloaded: "The API is overloaded",
    prompt_too_long: "The conversation is too long",
    api_error: "The API has answered with an error",
    agent_failed: "Claude Code could not be started",
    agent_exited: "Claude Code has ended by itself",
};

/** Said where the server has no sentence of its own. @type {Record<string, string>} */
const ADVICE = {
    not_logged_in: "Run `claude` in a terminal on the server's machine and log in, then ask again.",
    bad_key: "Run `claude` in a terminal on the server's machine and log in, or correct the key in its environment.",
    account_refused: "Run `claude` in a terminal on the server's machine to see what it wants.",
    billing: "Check the account's balance or plan, then ask again.",
    api_rate_limited: "Wait until it is renewed, then ask again.",
    no_network: "Check the network of the server's machine, then ask again.",
    model_refused: "Choose another model.",
    overloaded: "Ask again in a moment.",
    prompt_too_long: "Send /compact, or begin a new session.",
    api_error: "Ask again; if that does not help, read what it says.",
};

/**
 * @param {string} code
 * @returns {string | undefined} undefined: it is no trouble with a name
 */
export function titleOf(code) {
    return Object.hasOwn(TITLES, code) ? TITLES[code] : undefined;
}

/** @param {string} code */
export function adviceFor(code) {
    return Object.hasOwn(ADVICE, code) ? ADVICE[code] : "";
}

/**
 * A sentence as one begins and ends.
 * @param {string} text
 */
export function sentence(text) {
    const trimmed = text.trim();
    if (!trimmed) return "";
    const begun = /^[a-z]/.test(trimmed) ? trimmed[0].toUpperCase() + trimmed.slice(1) : trimmed;
    return /[.!?:…)`]$/.test(begun) ? begun : `${begun}.`;
}
