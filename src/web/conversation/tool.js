// A tool's card: one line that says what is done, and behind it what was put in and what came out. What is behind it is made
// when it is opened for the first time: a long conversation has thousands of cards, and most stay closed.

import { h, setText } from "../dom.js";
import { lineDiff, tally } from "./diff.js";
import { inputOf } from "./messages.js";
import { plural } from "./format.js";
import { aboutOf, nameOf } from "./summary.js";
import { toolBody, changesOf } from "./tool_body.js";

/**
 * @typedef {import("./fold.js").ToolItem} ToolItem
 * @typedef {import("./items.js").Context} Context
 */

/** Of a sub-agent's items so many are shown; the earlier ones at a push of a button. */
const CHILDREN_MAX = 60;

/** Cards that are of no use when they are closed. */
const OPEN = new Set(["TodoWrite", "ExitPlanMode", "AskUserQuestion"]);

/** A small change is shown at once. */
const OPEN_LINES_MAX = 24;

const STATES = { running: "running", done: "", failed: "failed", ended: "no result" };

/**
 * @param {ToolItem} item
 * @param {Context} context
 */
export function toolCard(item, context) {
    const name = h("b");
    const about = h("span", { class: "about" });
    const state = h("span", { class: "state" });
    const body = h("div", { class: "body" });
    const children = h("div", { class: "children", role: "group", "aria-label": "Sub-agent" });
    const element = h("details", { class: "item tool" }, h("summary", null, name, " ", about, state), body, children);
    /** What the body was made of. */
    let made = "";
    let shownMax = CHILDREN_MAX;
    /** Whether the browser, not the user, is about to say that the card was opened or closed. */
    let ours = 0;

    const open = (/** @type {boolean} */ wanted) => {
        if (element.open === wanted) return;
        ours++;
        element.open = wanted;
    };

    const drawBody = () => {
        if (!element.open) return;
        const now = `${item.inputText.length} ${item.whole} ${item.state} ${item.result !== null}`;
        if (now !== made) body.replaceChildren(...toolBody(item, inputOf(item), context));
        made = now;
    };

    const drawChildren = () => {
        children.hidden = item.children.length === 0;
        if (!element.open) return;
        const hidden = Math.max(0, item.children.length - shownMax);
        const more = hidden > 0 && h("button", { type: "button", class: "more", onclick: () => {
            shownMax += CHILDREN_MAX * 2;
            drawChildren();
        } }, `Show earlier (${hidden})`);
        const shown = item.children.slice(hidden).map((child) => context.component(child).element);
        for (const child of item.children.slice(0, hidden)) context.forget(child);
        const wanted = [...(more ? [more] : []), ...shown];
        // Those that are there already stay as they are.
        wanted.forEach((node, at) => {
            if (children.children[at] !== node) children.insertBefore(node, children.children[at] ?? null);
        });
        while (children.children.length > wanted.length) children.lastElementChild?.remove();
    };

    const update = () => {
        const input = inputOf(item);
        setText(name, nameOf(item.name));
        setText(about, aboutOf(item.name, input, context.cwd()) || (item.children.length ? "sub-agent" : ""));
        setText(state, stateOf(item, input));
        element.dataset.state = item.state;
        const chosen = context.opened.get(item);
        open(chosen ?? (item.whole && (OPEN.has(item.name) || isSmallChange(item, input))));
        drawBody();
        drawChildren();
    };

    element.addEventListener("toggle", () => {
        if (ours > 0) ours--;
        else context.opened.set(item, element.open);
        drawBody();
        drawChildren();
    });
    update();
    return { element, update };
}

/**
 * @param {ToolItem} item
 * @param {any} input
 */
function stateOf(item, input) {
    if (item.state === "done" && changesOf(item.name, input)) {
        const { added, removed } = item.details?.structuredPatch?.length
            ? tallyOfPatch(item.details.structuredPatch)
            : tallyOfInput(item.name, input);
        return `+${added} −${removed}`;
    }
    const inner = item.children.filter((child) => child.kind === "tool").length;
    return [STATES[item.state], inner > 0 && plural(inner, "tool")].filter(Boolean).join(" · ");
}

/** @param {any} patch */
function tallyOfPatch(patch) {
    const lines = Array.isArray(patch) ? patch.flatMap((hunk) => (Array.isArray(hunk?.lines) ? hunk.lines : [])) : [];
    const of = (/** @type {string} */ sign) => lines.filter((line) => String(line).startsWith(sign)).length;
    return { added: of("+"), removed: of("-") };
}

/**
 * @param {string} name
 * @param {any} input
 */
function tallyOfInput(name, input) {
    const tallies = (changesOf(name, input) ?? []).map(([before, after]) => tally(lineDiff(before, after)));
    return tallies.reduce((all, one) => ({ added: all.added + one.added, removed: all.removed + one.removed }), { added: 0, removed: 0 });
}

/**
 * @param {ToolItem} item
 * @param {any} input
 */
function isSmallChange(item, input) {
    const changes = changesOf(item.name, input);
    if (!changes || item.state === "failed") return false;
    return changes.flat().reduce((lines, text) => lines + text.split("\n").length, 0) <= OPEN_LINES_MAX;
}
