// Markdown, whole or while it is being written. Of a growing text only the last block is read and drawn again, and of
// that only what is different: finished paragraphs are never touched, nothing flickers, and a selection stays.

import { Lexer, Marked } from "../vendor/marked.js";
import { h } from "../dom.js";
import { mend } from "./mend.js";
import { morph } from "./morph.js";
import { codeBlock, CodeBlock } from "./parts.js";
import { sanitized } from "./sanitize.js";

/** A longer text is shown as it is. */
const TEXT_CHARS_MAX = 200_000;

/** A longer paragraph is shown as it is: to look for emphasis takes time in the square of its length. */
const PARAGRAPH_CHARS_MAX = 6_000;

/** Tags without attributes that people write in markdown. All other HTML is what it is: text. */
const PLAIN_TAGS = /&lt;(\/?(?:b|br|em|i|kbd|mark|s|strong|sub|sup|u)\s?\/?)&gt;/gi;

/** @typedef {import("../vendor/marked.js").Token} Token */
/** @typedef {import("../vendor/marked.js").Tokens.Code} Code */

const marked = new Marked({
    renderer: {
        heading({ tokens, depth }) {
            // Above it are the page's own headings.
            const level = Math.min(depth + 2, 6);
            return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
        },
        code({ text, lang }) {
            return `<pre data-lang="${escaped(lang ?? "")}"><code>${escaped(text)}</code></pre>`;
        },
        html({ text }) {
            return escaped(text).replace(PLAIN_TAGS, "<$1>");
        },
        checkbox({ checked }) {
            return checked ? "☑ " : "☐ ";
        },
        image({ href, text }) {
            // Nothing is loaded from another host.
            return `<a href="${escaped(href)}">${escaped(text || href)}</a>`;
        },
    },
});

/**
 * @param {string} text
 * @returns {DocumentFragment}
 */
export function renderMarkdown(text) {
    const markdown = new Markdown();
    markdown.set(text, false);
    const fragment = document.createDocumentFragment();
    fragment.append(...markdown.element.childNodes);
    return fragment;
}

export class Markdown {
    element = h("div", { class: "markdown" });
    /** What is drawn for good. */
    #done = "";
    /** The nodes of what is not. @type {ChildNode[]} */
    #tail = [];
    /** The last block, if it is code. @type {CodeBlock | null} */
    #code = null;

    /**
     * @param {string} text
     * @param {boolean} streaming whether more is to come
     */
    set(text, streaming) {
        const source = text.replaceAll(/\r\n?/g, "\n");
        if (!source.startsWith(this.#done)) this.#restart();
        if (source.length > TEXT_CHARS_MAX) return this.#plain(source);
        try {
            this.#draw(source, streaming);
        } catch {
            // Nested deeper than can be followed.
            this.#plain(source);
        }
    }

    #restart() {
        this.element.replaceChildren();
        this.#done = "";
        this.#tail = [];
        this.#code = null;
    }

    /** @param {string} source */
    #plain(source) {
        this.#restart();
        this.element.append(h("div", { class: "plain" }, source));
    }

    /**
     * @param {string} source
     * @param {boolean} streaming
     */
    #draw(source, streaming) {
        const links = /^ {0,3}\[[^\]\n]+\]:/m.test(source);
        // Where an address stands below the link to it, all is read once more in the end.
        if (links && !streaming && this.#done) this.#restart();
        const tokens = lex(source.slice(this.#done.length));
        let last = tokens.length - 1;
        while (last > 0 && tokens[last].type === "space") last--;
        if (!streaming) last = tokens.length;
        for (const token of tokens.slice(0, Math.max(last, 0))) this.#finish(token);
        if (streaming && last >= 0) this.#grow(tokens[last]);
        else this.#putTail([]);
    }

    /** @param {Token} token */
    #finish(token) {
        this.#done += token.raw;
        if (token.type === "space" || token.type === "def") return;
        if (token.type === "code") {
            const code = this.#code ?? new CodeBlock();
            code.set(token.text, token.lang, false);
            if (!this.#code) this.#putTail([code.element]);
        } else {
            const fragment = sanitized(marked.parser([token]));
            for (const pre of fragment.querySelectorAll("pre")) {
                pre.replaceWith(codeBlock(pre.textContent ?? "", pre.dataset.lang));
            }
            for (const table of fragment.querySelectorAll("table")) {
                const frame = h("div", { class: "table", tabindex: 0, role: "group", "aria-label": "Table" });
                table.replaceWith(frame);
                frame.append(table);
            }
            this.#putTail([...fragment.childNodes]);
        }
        this.#tail = [];
        this.#code = null;
    }

    /** @param {Token} token */
    #grow(token) {
        if (token.type === "code") {
            const code = this.#code ?? new CodeBlock();
            code.set(token.text, token.lang, true);
            if (!this.#code) this.#putTail([code.element]);
            this.#code = code;
            return;
        }
        this.#code = null;
        const mended = token.type === "space" ? [] : lex(mend(token.raw, token.type));
        this.#putTail([...sanitized(marked.parser(mended)).childNodes]);
    }

    /** @param {ChildNode[]} nodes */
    #putTail(nodes) {
        this.#tail = morph(this.element, this.#tail, nodes);
    }
}

/**
 * @param {string} source
 * @returns {Token[]}
 */
function lex(source) {
    const lexer = new Lexer(marked.defaults);
    lexer.blockTokens(source, lexer.tokens);
    for (const { src, tokens } of lexer.inlineQueue) {
        if (src.length <= PARAGRAPH_CHARS_MAX) lexer.inlineTokens(src, tokens);
        else tokens.push({ type: "text", raw: src, text: src, escaped: false });
    }
    return lexer.tokens;
}

/** @param {string} text */
function escaped(text) {
    return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
}
