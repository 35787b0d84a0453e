// Numbers as people read them.

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
