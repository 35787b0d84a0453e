// Pieces that several kinds of items are made of.

import { h } from "../dom.js";
import { colour, copyButton } from "./code.js";
import { count, cut, size } from "./format.js";

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
    const shown = cut(text.replaceAll(/\x1b\[[0-9;?]*[ -/]*[@-~]/g, ""));
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
        const known = /^https?:/i.test(picture.url);
        return known ? h("a", { href: picture.url, target: "_blank", rel: "noopener noreferrer" }, alt) : h("span", null, alt);
    }
    if (!PICTURES.test(picture.mediaType)) return h("span", { class: "dim" }, `[${alt}: ${picture.mediaType}]`);
    const image = h("img", { src: `data:${picture.mediaType};base64,${picture.data}`, alt, decoding: "async" });
    const button = h("button", { type: "button", class: "picture", "aria-pressed": "false", title: "Larger or smaller" }, image);
    button.addEventListener("click", () => button.setAttribute("aria-pressed", String(button.classList.toggle("large"))));
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
