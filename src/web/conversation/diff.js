// The difference between two texts, line by line.

/**
 * `sign`: " " in both, "-" in the old one, "+" in the new one, "…" where lines were left out. Numbers count from 1.
 * @typedef {{sign: " " | "-" | "+" | "…", text: string, old?: number, new?: number}} Row
 */

/** Beyond so many pairs of lines it is not searched for what they have in common: it would take too long. */
const PAIRS_MAX = 1_000_000;

/** Lines around a change. */
const CONTEXT_LINES = 3;

/**
 * @param {string} before
 * @param {string} after
 * @returns {Row[]}
 */
export function lineDiff(before, after) {
    const [a, b] = [lines(before), lines(after)];
    let start = 0;
    while (start < a.length && start < b.length && a[start] === b[start]) start++;
    let end = 0;
    while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++;
    /** @type {Row[]} */
    const rows = [];
    const both = (/** @type {number} */ i, /** @type {number} */ j) => {
        rows.push({ sign: " ", text: a[i], old: i + 1, new: j + 1 });
    };
    for (let i = 0; i < start; i++) both(i, i);
    for (const [i, j] of changes(a.slice(start, a.length - end), b.slice(start, b.length - end))) {
        if (j < 0) rows.push({ sign: "-", text: a[start + i], old: start + i + 1 });
        else if (i < 0) rows.push({ sign: "+", text: b[start + j], new: start + j + 1 });
        else both(start + i, start + j);
    }
    for (let i = end; i > 0; i--) both(a.length - i, b.length - i);
    return rows;
}

/**
 * The changed lines with a few around them.
 * @param {Row[]} rows
 * @returns {Row[]}
 */
export function hunks(rows) {
    const near = new Uint8Array(rows.length);
    rows.forEach((row, at) => {
        if (row.sign !== " ") near.fill(1, Math.max(0, at - CONTEXT_LINES), at + CONTEXT_LINES + 1);
    });
    /** @type {Row[]} */
    const shown = [];
    rows.forEach((row, at) => {
        if (near[at]) shown.push(row);
        else if (shown.length && near[at - 1] && near.indexOf(1, at) > 0) shown.push({ sign: "…", text: "" });
    });
    return shown;
}

/**
 * What Claude Code says about a change: hunks of lines that begin with their sign.
 * @param {any} patch `[{oldStart, newStart, lines}]`
 * @returns {Row[] | null} null: it is not such a thing
 */
export function fromPatch(patch) {
    if (!Array.isArray(patch) || !patch.length || !patch.every((hunk) => Array.isArray(hunk?.lines))) return null;
    /** @type {Row[]} */
    const rows = [];
    for (const { oldStart, newStart, lines } of patch) {
        if (rows.length) rows.push({ sign: "…", text: "" });
        let [old, now] = [Number(oldStart) || 1, Number(newStart) || 1];
        for (const line of lines.map(String)) {
            const text = line.slice(1);
            if (line[0] === "-") rows.push({ sign: "-", text, old: old++ });
            else if (line[0] === "+") rows.push({ sign: "+", text, new: now++ });
            else if (line[0] !== "\\") rows.push({ sign: " ", text, old: old++, new: now++ });
        }
    }
    return rows;
}

/**
 * How many lines have come, and how many have gone.
 * @param {Row[]} rows
 */
export function tally(rows) {
    const of = (/** @type {string} */ sign) => rows.reduce((sum, row) => sum + Number(row.sign === sign), 0);
    return { added: of("+"), removed: of("-") };
}

/**
 * The longest common subsequence: pairs of lines, -1 where one of them has none.
 * @param {string[]} a
 * @param {string[]} b
 * @returns {[number, number][]}
 */
function changes(a, b) {
    const width = b.length + 1;
    /** @type {[number, number][]} */
    const found = [];
    let [i, j] = [0, 0];
    if (a.length * b.length <= PAIRS_MAX) {
        const common = new Uint32Array((a.length + 1) * width);
        for (let row = a.length - 1; row >= 0; row--) {
            for (let column = b.length - 1; column >= 0; column--) {
                const at = row * width + column;
                common[at] = a[row] === b[column]
                    ? common[at + width + 1] + 1
                    : Math.max(common[at + width], common[at + 1]);
            }
        }
        while (i < a.length && j < b.length) {
            if (a[i] === b[j]) found.push([i++, j++]);
            else if (common[(i + 1) * width + j] >= common[i * width + j + 1]) found.push([i++, -1]);
            else found.push([-1, j++]);
        }
    }
    while (i < a.length) found.push([i++, -1]);
    while (j < b.length) found.push([-1, j++]);
    return found;
}

/** @param {string} text */
function lines(text) {
    if (text === "") return [];
    const all = text.split("\n");
    // A newline ends a line: behind the last one there is none.
    if (all.at(-1) === "") all.pop();
    return all;
}
