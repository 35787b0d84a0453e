// A tool's card: one line that says what is done, and behind it what was put in and what came out. What is behind it is
// made when it is opened for the first time: a long conversation has thousands of cards, and most stay closed.

import { h, setText } from "../dom.js";
import { fromPatch, hunks, lineDiff, tally } from "./diff.js";
import { renderMarkdown } from "./markdown.js";
import { inputOf } from "./messages.js";
import { output, picture } from "./parts.js";
import { aboutOf, nameOf, plural, within } from "./words.js";

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

const STATES = { running: "running", done: "", failed: "failed", ended: "no result", asked: "asks you", denied: "denied" };

/**
 * @param {ToolItem} item
 * @param {Context} context
 */
export function toolCard(item, context) {
    const name = h("b");
    const folder = h("span", { class: "folder" });
    const about = h("span", { class: "file" });
    const where = h("span", { class: "about" }, folder, about);
    const state = h("span", { class: "state" });
    const body = h("div", { class: "body" });
    const children = h("div", { class: "children", role: "group", "aria-label": "Sub-agent" });
    const element = h("details", { class: "item tool" }, h("summary", null, name, " ", where, state), body,
        children);
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
        const told = aboutOf(item.name, input, context.cwd()) || (item.children.length ? "sub-agent" : "");
        // Of a path that does not fit, the file's name is what one looks for.
        const at = pathOf(input) ? told.lastIndexOf("/") + 1 : 0;
        setText(folder, told.slice(0, at));
        setText(about, told.slice(at));
        where.title = pathOf(input);
        setText(state, stateOf(item, input));
        element.dataset.state = kindOf(item);
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

/** Who waits for a person does not run, and what a person has refused has not failed. @param {ToolItem} item */
function kindOf(item) {
    if (item.state === "running" && item.asked === "open") return "asked";
    return item.state === "failed" && item.asked === "deny" ? "denied" : item.state;
}

/** @param {any} input */
function pathOf(input) {
    return text(input?.file_path ?? input?.notebook_path ?? "");
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
    return [STATES[kindOf(item)], inner > 0 && plural(inner, "tool")].filter(Boolean).join(" · ");
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
    return tally((changesOf(name, input) ?? []).flatMap(([before, after]) => lineDiff(before, after)));
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

/** @typedef {import("./diff.js").Row} Row */

/** More lines of a difference are shown at a push of a button. */
const ROWS_MAX = 300;

/** Tools of which the file's name tells everything that was put in. */
const READERS = new Set(["Read", "LS"]);

/** Those whose answer says nothing more. */
const SILENT = new Set(["TodoWrite", "ExitPlanMode"]);

/** Those whose answer is a text for people. */
const WRITERS = new Set(["Task", "Agent", "WebFetch", "WebSearch"]);

/**
 * @param {ToolItem} item
 * @param {any} input
 * @param {Context} context
 * @returns {HTMLElement[]}
 */
export function toolBody(item, input, context) {
    const failed = item.state === "failed";
    const made = intoBody(item, input, context);
    // What such a tool answers is what one sees already.
    const silent = !failed && (changesOf(item.name, input) || SILENT.has(item.name));
    if (!silent) made.push(...outOf(item));
    return made;
}

/**
 * The texts before and after, of a tool that changes a file.
 * @param {string} name
 * @param {any} input
 * @returns {[string, string][] | null}
 */
export function changesOf(name, input) {
    /** @type {(edit: any) => [string, string]} */
    const pair = (edit) => [text(edit?.old_string), text(edit?.new_string)];
    if (name === "Edit") return [pair(input)];
    if (name === "MultiEdit" && Array.isArray(input.edits)) return input.edits.map(pair);
    if (name === "Write") return [["", text(input.content)]];
    if (name === "NotebookEdit") return [["", text(input.new_source)]];
    return null;
}

/**
 * @param {ToolItem} item
 * @param {any} input
 * @param {Context} context
 * @returns {HTMLElement[]}
 */
function intoBody(item, input, context) {
    const changes = changesOf(item.name, input);
    if (changes) {
        const patch = fromPatch(item.details?.structuredPatch);
        // Claude's own numbers are those of the file; where it gives none, the pieces have none.
        const rows = patch ? [patch] : changes.map(([before, after]) => hunks(lineDiff(before, after)));
        const numbered = patch !== null || item.name === "Write";
        const file = h("p", { class: "dim path" }, within(pathOf(input), context.cwd()));
        return [file, ...rows.map((rows) => diff(rows, numbered))];
    }
    if (item.name === "Bash" && typeof input.command === "string") {
        const about = input.description && h("p", { class: "dim" }, text(input.description));
        return [...(about ? [about] : []), output(input.command, "Command", "bash")];
    }
    if (item.name === "TodoWrite" && Array.isArray(input.todos)) return [todos(input.todos)];
    if (item.name === "ExitPlanMode" && typeof input.plan === "string") return [prose(input.plan)];
    if (item.name === "AskUserQuestion" && Array.isArray(input.questions)) return questions(input.questions, item);
    if ((item.name === "Task" || item.name === "Agent") && input.prompt) {
        return [h("details", { class: "asked" }, h("summary", null, "What it was asked"), prose(text(input.prompt)))];
    }
    if (READERS.has(item.name)) return [h("p", { class: "dim path" }, pathOf(input) || text(input?.path))];
    if (input === null || typeof input !== "object" || Object.keys(input).length === 0) return [];
    return [output(JSON.stringify(input, null, 2), "Input", "json")];
}

/** @param {ToolItem} item */
function outOf(item) {
    if (!item.result) return [];
    const { text, pictures } = item.result;
    const made = pictures.map((one) => picture(one));
    const words = text.replace(/^<tool_use_error>([\s\S]*)<\/tool_use_error>$/, "$1").trimEnd();
    if (words) made.push(WRITERS.has(item.name) ? prose(words) : output(words, "Output"));
    else if (!made.length) made.push(h("p", { class: "dim" }, "No output"));
    return made;
}

/**
 * @param {Row[]} rows
 * @param {boolean} numbered
 */
export function diff(rows, numbered) {
    const body = h("tbody");
    const draw = (/** @type {Row[]} */ some) => some.forEach((row) => body.append(diffRow(row, numbered)));
    draw(rows.slice(0, ROWS_MAX));
    const more = rows.length > ROWS_MAX && h("button", { type: "button", class: "more", onclick: () => {
        draw(rows.slice(ROWS_MAX));
        if (more) more.remove();
    } }, `Show all (${rows.length} lines)`);
    const frame = { class: "scroll", tabindex: 0, role: "group", "aria-label": "Changed lines" };
    return h("div", { class: "diff" }, h("div", frame, h("table", null, body)), more);
}

/**
 * @param {Row} row
 * @param {boolean} numbered
 */
function diffRow(row, numbered) {
    const kind = { "+": "added", "-": "removed", "…": "gap", " ": "" }[row.sign];
    return h("tr", { class: kind },
        numbered && h("td", { class: "number" }, row.new ?? row.old ?? ""),
        h("td", { class: "sign" }, row.sign), h("td", null, row.text));
}

/** @param {any[]} todos */
function todos(todos) {
    const words = { completed: "done", in_progress: "in progress", pending: "to do" };
    return h("ul", { class: "todos" }, todos.map((todo) => {
        const status = /** @type {keyof typeof words} */ (Object.hasOwn(words, todo?.status) ? todo.status : "pending");
        const shown = status === "in_progress" ? (todo.activeForm ?? todo.content) : todo?.content;
        return h("li", { class: status }, h("span", { class: "apart" }, `${words[status]}: `), text(shown));
    }));
}

/**
 * @param {any[]} questions
 * @param {ToolItem} item
 */
function questions(questions, item) {
    const answers = item.details?.answers ?? {};
    return questions.map((one) => {
        const question = text(one?.question);
        const options = Array.isArray(one?.options) ? one.options : [];
        const chosen = Object.hasOwn(answers, question) ? text(answers[question]) : "";
        return h("div", { class: "question" }, h("p", null, question), chosen
            ? h("p", { class: "chosen" }, chosen)
            : h("p", { class: "dim" }, options.map((/** @type {any} */ option) => text(option?.label)).join(" · ")));
    });
}

/** @param {string} words */
function prose(words) {
    return h("div", { class: "markdown" }, renderMarkdown(words));
}

/** @param {any} value */
function text(value) {
    return value === undefined || value === null ? "" : String(value);
}
