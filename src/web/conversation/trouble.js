// What it is called when Claude could not ask the model. What to do about it, the server says with it in a sentence.

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
    bad_key: "Run `claude` in a terminal on the server's machine and log in, or correct the key in the server's environment.",
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
