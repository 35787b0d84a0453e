// How each kind of item looks. A component is made once for an item, and told when the item has changed.

import { h, setText } from "../dom.js";
import { Markdown } from "./markdown.js";
import { output, picture, timeOf, withCode } from "./parts.js";
import { toolCard } from "./tool.js";
import { adviceFor, count, cut, duration, money, nameOf, sentence, size, titleOf } from "./words.js";

/** Of a prompt so much is shown at first. */
const PROMPT_LINES_MAX = 24;
const PROMPT_CHARS_MAX = 2_400;

/**
 * @typedef {import("./fold.js").Item} Item
 * @typedef {{element: HTMLElement, update?: () => void}} Component
 * @typedef {{
 *   cwd: () => string,
 *   fetchWhole: (seq: number) => Promise<boolean>,
 *   opened: Map<Item, boolean>,
 *   component: (item: Item) => Component,
 *   forget: (item: Item) => void,
 *   reads: () => void,
 * }} Context `reads`: somebody begins to read where they are; `opened`: cards that the user has opened or closed; `component`: the one that is there, or a new one
 */

/**
 * @param {Item} item
 * @param {Context} context
 * @returns {Component}
 */
export function makeComponent(item, context) {
    switch (item.kind) {
        case "prompt":
            return prompt(item, context);
        case "text":
            return text(item);
        case "thinking":
            return thinking(item, context);
        case "tool":
            return toolCard(item, context);
        case "picture":
            return { element: h("div", { class: "item" }, picture(item.picture)) };
        case "result":
            return result(item);
        case "notice":
            return notice(item);
        case "permission":
            return permission(item);
        case "boundary":
            return { element: h("div", { class: "item boundary dim" }, h("span", null, item.text)) };
        case "retry":
            return retry(item);
        case "output":
            return { element: h("div", { class: "item" }, output(item.text, "Output")) };
        case "truncated":
            return truncated(item, context);
        case "other":
            return other(item);
    }
}

/**
 * @param {import("./fold.js").PromptItem} item
 * @param {Context} context
 */
function prompt(item, context) {
    const files = h("ul", { class: "files" });
    const shown = cut(item.text, PROMPT_LINES_MAX, PROMPT_CHARS_MAX);
    const words = h("div", { class: "words", tabindex: -1 }, shown);
    const more = shown.length < item.text.length && h("button", { type: "button", class: "more", onclick: () => {
        words.textContent = item.text;
        context.reads();
        words.focus({ preventScroll: true });
        if (more) more.remove();
    } }, "Show all");
    const element = h("article", { class: "item prompt", "aria-label": "You" },
        h("h2", { class: "apart" }, "You"), words, more, files, timeOf(item.time));
    const update = () => {
        const pictures = item.pictures.map((one) => h("li", null, picture(one, "Image that you sent")));
        const names = item.attachments.map(({ name, bytes }) => h("li", { class: "file" }, String(name), " ",
            h("span", { class: "dim" }, size(Number(bytes) || 0))));
        files.replaceChildren(...names, ...pictures);
        files.hidden = !files.firstChild;
    };
    update();
    return { element, update };
}

/** @param {import("./fold.js").TextItem} item */
function text(item) {
    const markdown = new Markdown();
    const element = h("article", { class: "item text", "aria-label": "Claude" }, markdown.element);
    const update = () => {
        element.classList.toggle("streaming", item.streaming);
        element.classList.toggle("failed", Boolean(item.failed));
        markdown.set(item.partial ? `… ${item.text}` : item.text, item.streaming);
    };
    update();
    return { element, update };
}

/**
 * @param {import("./fold.js").TextItem} item
 * @param {Context} context
 */
function thinking(item, context) {
    const label = h("span");
    const words = h("div", { class: "words" });
    const open = context.opened.get(item) ?? false;
    const element = h("details", { class: "item thinking", open }, h("summary", null, label), words);
    const update = () => {
        setText(label, item.streaming ? "Thinking…" : "Thought");
        element.classList.toggle("streaming", item.streaming);
        // Most are never looked at.
        if (element.open) setText(words, item.text);
    };
    element.addEventListener("toggle", () => {
        context.opened.set(item, element.open);
        update();
    });
    update();
    return { element, update };
}

/** @param {import("./fold.js").ResultItem} item */
function result(item) {
    const element = h("div", { class: "item result" });
    const update = () => {
        const word = { done: "Done", interrupted: "Stopped", failed: "Failed" }[item.status] ?? "Ended";
        const tokens = item.outputTokens !== undefined && h("span", { title: "Tokens read and written" },
            `${count(item.inputTokens ?? 0)} in, ${count(item.outputTokens)} out`);
        const parts = [
            h("span", { class: item.status === "failed" ? "bad" : "" }, word),
            item.durationMs !== undefined && h("span", null, duration(item.durationMs)),
            Boolean(item.costUsd) && h("span", null, money(item.costUsd ?? 0)),
            tokens,
        ];
        const why = item.reason || (item.code ? adviceFor(item.code) : "");
        element.replaceChildren(h("p", { class: "facts dim" }, parts));
        if (item.status === "failed" && why) element.append(h("p", { class: "why" }, withCode(sentence(why))));
    };
    update();
    return { element, update };
}

/** @param {import("./fold.js").NoticeItem} item */
function notice(item) {
    const title = titleOf(item.code);
    const level = item.level === "error" ? "error" : item.level === "warning" ? "warning" : "info";
    // A sentence that begins with its title has said it twice.
    const text = title && item.text.startsWith(`${title}: `) ? item.text.slice(title.length + 2) : item.text;
    const words = withCode(sentence(text) || adviceFor(item.code));
    const element = title
        ? h("div", { class: `item notice card ${level}` }, h("p", null, h("strong", null, title)), h("p", null, words))
        : h("div", { class: `item notice ${level}` }, h("p", null, words));
    return { element };
}

/** @param {import("./fold.js").PermissionItem} item */
function permission(item) {
    const element = h("div", { class: "item permission dim" });
    const update = () => {
        const word = { allow: "Allowed", deny: "Denied" }[item.behavior] ?? "Not answered";
        const parts = [word, item.toolName && nameOf(item.toolName)];
        const facts = { class: "facts", title: item.by && `by ${item.by}` };
        element.replaceChildren(h("p", facts, parts.map((part) => part && h("span", null, part))));
    };
    update();
    return { element, update };
}

/** @param {import("./fold.js").RetryItem} item */
function retry(item) {
    const element = h("div", { class: "item notice warning" });
    const update = () => {
        const of = item.attemptsMax ? ` of ${item.attemptsMax}` : "";
        setText(element, item.over
            ? `The API had to be asked again (${item.attempt}${of}).`
            : `The API does not answer; Claude tries again (${item.attempt}${of})…`);
    };
    update();
    return { element, update };
}

/**
 * @param {import("./fold.js").TruncatedItem} item
 * @param {Context} context
 */
function truncated(item, context) {
    const button = h("button", { type: "button" }, `Show it (${size(item.bytes)})`);
    const told = h("span", { class: "dim" }, "Something large is left out here. ");
    button.addEventListener("click", async () => {
        button.disabled = true;
        if (await context.fetchWhole(item.seq)) return;
        setText(told, "It cannot be had now. ");
        button.disabled = false;
    });
    return { element: h("div", { class: "item truncated" }, told, button) };
}

/** @param {import("./fold.js").OtherItem} item */
function other(item) {
    const made = h("details", { class: "item tool" }, h("summary", null, h("b", null, item.name)));
    const once = () => made.append(output(JSON.stringify(item.value, null, 2), item.name, "json"));
    made.addEventListener("toggle", once, { once: true });
    return { element: made };
}
