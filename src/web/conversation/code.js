// Code: with its language, a button that copies it, and colours once it is complete and in sight.

import { h } from "../dom.js";
import { coloured } from "./sanitize.js";

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
        const { default: hljs } = await import("../vendor/highlight.js");
        const name = language.toLowerCase();
        if (!hljs.getLanguage(name)) return;
        const { value } = hljs.highlight(text, { language: name, ignoreIllegals: true });
        code.replaceChildren(coloured(value));
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
