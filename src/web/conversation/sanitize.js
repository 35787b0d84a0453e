// What HTML may be in a conversation. All of it is made here from markdown, in which HTML of Claude's is text already:
// this is the second lock on that door, and the one that is sure to know what browsers make of strange HTML.

import DOMPurify from "../vendor/purify.js";

const PROSE = {
    ALLOWED_TAGS: [
        "a", "b", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "i", "kbd", "li", "mark", "ol",
        "p", "pre", "s", "strong", "sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul",
    ],
    ALLOWED_ATTR: ["align", "data-lang", "href", "start", "title"],
    // These are no addresses.
    ADD_URI_SAFE_ATTR: ["align", "data-lang", "start"],
    ALLOW_ARIA_ATTR: false,
    ALLOW_DATA_ATTR: false,
    // An address within this page's folder would lead nowhere.
    ALLOWED_URI_REGEXP: /^(?:https?:\/\/|mailto:)/i,
    RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};

/** What highlight.js makes: nothing but coloured pieces of text. */
const COLOURS = {
    ALLOWED_TAGS: ["span"],
    ALLOWED_ATTR: ["class"],
    ALLOW_ARIA_ATTR: false,
    ALLOW_DATA_ATTR: false,
    RETURN_DOM_FRAGMENT: /** @type {const} */ (true),
};

const prose = DOMPurify(window);
prose.addHook("afterSanitizeAttributes", (node) => {
    if (node.nodeName !== "A" || !node.hasAttribute("href")) return;
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
});

/**
 * @param {string} html
 * @returns {DocumentFragment}
 */
export function sanitized(html) {
    return prose.sanitize(html, PROSE);
}

const colours = DOMPurify(window);

/**
 * @param {string} html
 * @returns {DocumentFragment}
 */
export function coloured(html) {
    return colours.sanitize(html, COLOURS);
}
