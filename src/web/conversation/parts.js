// Pieces that several kinds of items are made of: code and long texts, pictures, times. Code has its language, a button
// that copies it, and colours once it is complete and in sight.

import { h } from "../dom.js";
import { highlighted } from "./highlight.js";
import { coloured } from "./sanitize.js";
import { count, cut, size } from "./words.js";

/** Longer code stays without colours: to find them would be felt. */
const COLOURED_CHARS_MAX = 40_000;

/** How long a button says that it has been done. */
const DONE_MS = 1500;

/** @type {WeakMap<Element, () => void>} */
const waiting = new WeakMap();

const sight = new IntersectionObserver((entries) => {
    for (const { isIntersecting, target } of entries) {
        if (!isIntersecting) continue;
        sight.unobserve(target);
        waiting.get(target)?.();
        waiting.delete(target);
    }
}, { rootMargin: "200px" });

export class CodeBlock {
    #code = h("code");
    #name = h("span");
    #text = "";
    element = h("figure", { class: "code" },
        h("figcaption", null, this.#name, copyButton(() => this.#text)),
        h("pre", { tabindex: 0, role: "group", "aria-label": "Code" }, this.#code));

    /**
     * @param {string} text
     * @param {string | undefined} language as it stands behind the fence
     * @param {boolean} streaming
     */
    set(text, language, streaming) {
        const name = /^[\w+#.-]*/.exec(language?.trim() ?? "")?.[0] ?? "";
        if (this.#name.textContent !== name) this.#name.textContent = name;
        const old = this.#code.firstChild;
        if (old instanceof Text && text.startsWith(this.#text)) old.appendData(text.slice(this.#text.length));
        else this.#code.textContent = text;
        this.#text = text;
        if (!streaming && name) colour(this.#code, text, name);
    }
}

/**
 * @param {string} text
 * @param {string} [language]
 */
export function codeBlock(text, language) {
    const block = new CodeBlock();
    block.set(text.replace(/\n$/, ""), language, false);
    return block.element;
}

/**
 * @param {HTMLElement} code
 * @param {string} text
 * @param {string} language
 */
export function colour(code, text, language) {
    if (text.length > COLOURED_CHARS_MAX) return;
    waiting.set(code, async () => {
        // Where the colours cannot be had, as from a server that is gone, the code stays as it is.
        const html = await highlighted(text, language).catch(() => null);
        if (html !== null) code.replaceChildren(coloured(html));
    });
    sight.observe(code);
}

/** @param {() => string} text */
export function copyButton(text) {
    const button = h("button", { type: "button", class: "copy quiet" }, "Copy");
    button.addEventListener("click", async () => {
        button.textContent = (await copy(text())) ? "Copied" : "Not copied";
        setTimeout(() => (button.textContent = "Copy"), DONE_MS);
    });
    return button;
}

/**
 * Over plain http there is no clipboard to write to, but still the old command for what is selected.
 * @param {string} text
 * @returns {Promise<boolean>}
 */
async function copy(text) {
    try {
        await navigator.clipboard.writeText(text);
        return true;
    } catch {
        const focused = document.activeElement;
        const field = h("textarea", { class: "apart", readonly: true, "aria-hidden": "true" });
        field.value = text;
        document.body.append(field);
        field.select();
        const done = document.execCommand("copy");
        field.remove();
        if (focused instanceof HTMLElement) focused.focus({ preventScroll: true });
        return done;
    }
}

/** @typedef {import("./fold.js").Picture} Picture */

/** What browsers draw, and no SVG: that is a document of its own. */
const PICTURES = /^image\/(?:png|jpeg|gif|webp)$/;

/**
 * A long text: its beginning, and a button for the rest.
 * @param {string} text
 * @param {string} label
 * @param {string} [language]
 */
export function output(text, label, language) {
    text = text.replaceAll(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, "");
    const shown = cut(text);
    const code = h("code", null, shown);
    if (language) colour(code, shown, language);
    const more = shown.length < text.length && h("button", { type: "button", class: "more", onclick: () => {
        code.textContent = text;
        if (more) more.remove();
    } }, `Show all (${count(text.split("\n").length)} lines, ${size(text.length)})`);
    return h("div", { class: "output" },
        h("pre", { tabindex: 0, role: "group", "aria-label": label }, code), copyButton(() => text), more);
}

/**
 * @param {Picture} picture
 * @param {string} [alt]
 * @returns {HTMLElement}
 */
export function picture(picture, alt = "Image") {
    if ("url" in picture) {
        const href = /^https?:/i.test(picture.url) ? picture.url : null;
        return h("a", { href, target: "_blank", rel: "noopener noreferrer" }, alt);
    }
    if (!PICTURES.test(picture.mediaType)) return h("span", { class: "dim" }, `[${alt}: ${picture.mediaType}]`);
    const image = h("img", { src: `data:${picture.mediaType};base64,${picture.data}`, alt, decoding: "async" });
    const button = h("button", { type: "button", class: "picture", "aria-pressed": "false", title: "Larger" }, image);
    button.addEventListener("click", () => {
        button.setAttribute("aria-pressed", String(button.classList.toggle("large")));
    });
    return button;
}

/**
 * A sentence of the server's, in which commands stand between backticks.
 * @param {string} text
 */
export function withCode(text) {
    return text.split("`").map((piece, at) => (at % 2 ? h("code", null, piece) : piece));
}

/** @param {number | undefined} time */
export function timeOf(time) {
    if (!time) return null;
    const date = new Date(time);
    const today = date.toDateString() === new Date().toDateString();
    /** @type {Intl.DateTimeFormatOptions} */
    const day = today ? {} : { day: "numeric", month: "short" };
    const shown = date.toLocaleString(undefined, { hour: "2-digit", minute: "2-digit", ...day });
    return h("time", { class: "dim", datetime: date.toISOString(), title: date.toLocaleString() }, shown);
}
