// The last block of a text that is still being written, so that it reads as it will when it is complete: what has been
// opened is closed, and what may become something else in a moment is held back. Otherwise each `**` would be there as
// two stars first, and each table as a line of strokes.

/** A last line that may become a heading's underline, a fence, a heading, or a list. */
const UNDECIDED = /(^|\n) {0,3}(?:=+|-+|`{1,3}|~{1,3}|#{1,6}|[*+]|\d{1,9}[.)]?)[ \t]*$/;
const UNDECIDED_ITEM = /\n[ \t]*(?:[-*+=`~]+|\d{1,9}[.)]?)[ \t]*$/;

/** A longer paragraph is left as it is: this is done with each word that comes. */
const PART_CHARS_MAX = 4000;

/**
 * @param {string} block the source of one block
 * @param {string} type what it is so far, as marked calls it
 * @returns {string}
 */
export function mend(block, type) {
    let text = block;
    if (type === "paragraph" || type === "text") text = withoutTableHead(text).replace(UNDECIDED, "");
    else if (type === "list") text = text.replace(UNDECIDED_ITEM, "");
    const at = lastPart(text);
    return text.slice(0, at) + closed(text.slice(at));
}

/** A table is one only with its second line. @param {string} text */
function withoutTableHead(text) {
    const lines = text.split("\n");
    let first = lines.length;
    while (first > 0 && lines[first - 1].startsWith("|")) first--;
    return lines.length - first <= 2 ? lines.slice(0, first).join("\n") : text;
}

/** Where the paragraph, list item or table cell begins that is being written. @param {string} text */
function lastPart(text) {
    const from = text.lastIndexOf("\n\n") + 1;
    let at = from;
    for (const found of text.slice(from).matchAll(/(?:^|\n)[ \t>]*(?:[-*+]|\d{1,9}[.)])[ \t]+|\n(?=\|)/g)) {
        at = Math.max(at, from + found.index + found[0].length);
        if (text[at] === "|") at = text.lastIndexOf("|") + 1;
    }
    return Math.min(at, text.length);
}

/**
 * @param {string} part
 * @param {number} [again] how often something may still be cut off before all is right
 * @returns {string}
 */
function closed(part, again = 3) {
    if (again === 0 || part.length > PART_CHARS_MAX) return part;
    // Code first: nothing else counts within it.
    const outside = part.replace(/(?<!`)(`+)(?!`)[\s\S]*?[^`]\1(?!`)/g, (code) => "\0".repeat(code.length));
    const ticks = /`+/.exec(outside);
    if (ticks) {
        const inside = part.slice(ticks.index + ticks[0].length);
        if (!inside.trim()) return closed(part.slice(0, ticks.index), again - 1);
        return part.replace(/`+$/, "") + ticks[0];
    }
    const link = /!?\[([^[\]\n]*)\](?:\([^()\n]*)$/.exec(outside);
    if (link) {
        // A link's address comes letter by letter: until it is there, the link is its text.
        const label = part.slice(link.index).replace(/^!?\[([^[\]\n]*)\][\s\S]*$/, "$1");
        return closed(part.slice(0, link.index) + label, again - 1);
    }
    for (const mark of ["**", "__", "~~"]) {
        if (outside.split(mark).length % 2) continue;
        if (outside.endsWith(mark)) return part.slice(0, -mark.length);
        return part.replace(mark === "~~" ? /[~\s]+$/ : mark === "**" ? /[*\s]+$/ : /[_\s]+$/, "") + mark;
    }
    const single = /(?:^|[\s(])\*(?=[^\s*])(?!.*[^\s*]\*(?!\*))/s.exec(outside);
    if (single) return part.trimEnd() + "*";
    return part.replace(/(^|\s)[*_~]+$/, "$1");
}
