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

/** @param {number} count */
export function thousands(count) {
    if (count < 1000) return String(count);
    return count < 1e6 ? `${(count / 1000).toFixed(count < 10_000 ? 1 : 0)}k` : `${(count / 1e6).toFixed(1)}M`;
}

/** @param {number} bytes */
export function size(bytes) {
    if (bytes < 1000) return `${bytes} B`;
    return bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
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
export const MODES = {
    default: "Ask first",
    acceptEdits: "Accept edits",
    plan: "Plan",
    auto: "Auto",
    dontAsk: "Deny unasked",
    bypassPermissions: "Bypass all",
};

/**
 * The name of a session that has no title yet.
 * @param {{title: string | null}} session
 */
export function titleOf(session) {
    return session.title ?? "New conversation";
}
