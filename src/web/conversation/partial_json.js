// What is known of a JSON value of which only the beginning has come: a tool's input while Claude writes it.

/**
 * The value as far as it has come: open strings, lists and objects are closed. `undefined`: nothing of it can be told.
 * @param {string} text
 * @returns {any}
 */
export function partialJson(text) {
    const whole = parse(text);
    if (whole !== undefined) return whole;
    /** The brackets that would close what is open. @type {string[]} */
    const open = [];
    let inString = false;
    let escaped = false;
    /** Up to here, with its brackets, it was well-formed: before the last comma or behind the last opening. */
    let safe = { end: 0, open: /** @type {string[]} */ ([]) };
    for (let at = 0; at < text.length; at++) {
        const char = text[at];
        if (inString) {
            if (escaped) escaped = false;
            else if (char === "\\") escaped = true;
            else if (char === '"') inString = false;
        } else if (char === '"') inString = true;
        else if (char === "{" || char === "[") {
            open.push(char === "{" ? "}" : "]");
            safe = { end: at + 1, open: [...open] };
        } else if (char === "}" || char === "]") open.pop();
        else if (char === ",") safe = { end: at, open: [...open] };
    }
    const close = (/** @type {string[]} */ brackets) => [...brackets].reverse().join("");
    // An escape that has only begun is cut off: at most the six characters of \uXXXX.
    const body = inString
        ? text.replace(/\\(?:u[0-9a-fA-F]{0,3})?$/, (cut) => (escaped || cut.length > 1 ? "" : cut))
        : text;
    return parse(body + (inString ? '"' : "") + close(open)) ?? parse(text.slice(0, safe.end) + close(safe.open));
}

/**
 * @param {string} text
 * @returns {any}
 */
function parse(text) {
    try {
        return JSON.parse(text);
    } catch {
        return undefined;
    }
}
