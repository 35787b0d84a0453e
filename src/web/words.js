// Numbers and names as people read them.

/** @param {number} time Unix milliseconds */
export function ago(time) {
    const seconds = Math.max(0, (Date.now() - time) / 1000);
    if (seconds < 60) return "now";
    if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
    if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h`;
    if (seconds < 7 * 86_400) return `${Math.floor(seconds / 86_400)} d`;
    return new Date(time).toLocaleDateString(undefined, { day: "numeric", month: "short" });
}

/** @param {number} usd */
export function money(usd) {
    return usd > 0 && usd < 0.01 ? "< $0.01" : `$${usd.toFixed(2)}`;
}

/**
 * A path's last part, which is what tells directories apart.
 * @param {string} path
 */
export function lastPart(path) {
    return path.split("/").filter(Boolean).pop() ?? path;
}

/** What a session does, for a person. */
export const STATES = {
    stopped: "Asleep",
    starting: "Starting",
    idle: "Ready",
    busy: "Working",
    waiting: "Waits for your answer",
    stopping: "Stopping",
    failed: "Failed",
};

/** @type {{[mode: string]: string}} */
const MODES = {
    default: "Ask first",
    acceptEdits: "Accept edits",
    plan: "Plan",
    auto: "Auto",
    dontAsk: "Deny unasked",
    bypassPermissions: "Bypass all",
};

/**
 * The modes that may be chosen, each with its name.
 * @param {string[] | null | undefined} allowed by the server, if that has said so
 */
export function modesOf(allowed) {
    return Object.entries(MODES).filter(([mode]) => !allowed || allowed.includes(mode));
}

/** @type {{[mode: string]: string}} */
const ALLOWED = {
    default: "ask first",
    acceptEdits: "accept all edits",
    plan: "plan first",
    auto: "let Claude decide",
    dontAsk: "deny what is not allowed",
    bypassPermissions: "ask nothing any more",
};

/**
 * What a change to that mode means, behind "Allow, and".
 * @param {string} mode
 */
export function allowsMode(mode) {
    return (Object.hasOwn(ALLOWED, mode) && ALLOWED[mode]) || `mode “${mode}”`;
}

/**
 * How a session is, for a person. An agent in the background may ask while the conversation is at rest.
 * @param {{state: import("./wire.js").Summary["state"], openQuestions: number}} summary
 */
export function stateOf({ state, openQuestions }) {
    return openQuestions > 0 ? "waiting" : state;
}

/**
 * The name of a session that has no title yet.
 * @param {{title: string | null}} session
 */
export function titleOf(session) {
    return session.title ?? "New conversation";
}
