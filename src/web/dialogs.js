// Dialogs and menus: the browser's own, which keep the focus, close by Esc, and give the focus back.

import { button, h } from "./dom.js";

/** @typedef {{label: string, value: string, primary?: boolean, danger?: boolean, disabled?: boolean}} Action */

/**
 * Shows a dialog and waits for it: the value of the button that closed it, or `null`. Enter is the primary button.
 * @param {{title: string, body?: import("./dom.js").Child[], actions?: Action[], mustAnswer?: boolean, closes?: string,
 *     check?: (value: string) => boolean | Promise<boolean>}} wanted `closes`: what the button is called that does
 *     nothing; `check` may keep it open
 * @returns {Promise<string | null>}
 */
export function ask({ title, body = [], actions = [], mustAnswer = false, closes, check }) {
    const heading = h("h2", { id: `dialog-${++count}` }, title);
    const buttons = actions.map((action) => h("button", {
        type: action.primary ? "submit" : "button",
        class: action.primary ? (action.danger ? "primary danger" : "primary") : action.danger ? "danger" : "",
        disabled: action.disabled ?? false,
        onclick: action.primary ? null : () => close(action.value),
    }, action.label));
    if (!mustAnswer) buttons.unshift(button(closes ?? (actions.length > 0 ? "Cancel" : "Close"), () => dialog.close()));
    const form = h("form", null, heading,
        h("div", { class: "dialog-body" }, body),
        h("div", { class: "row actions" }, buttons));
    const dialog = h("dialog", { "aria-labelledby": heading.id }, form);
    /** @type {string | null} */
    let answer = null;
    let checking = false;
    /** @param {string} value */
    const close = async (value) => {
        if (checking) return;
        checking = true;
        const good = !check || (await check(value));
        checking = false;
        if (!good) return;
        answer = value;
        dialog.close();
    };
    form.addEventListener("submit", (event) => {
        event.preventDefault();
        const primary = actions.find((action) => action.primary);
        if (primary) void close(primary.value);
    });
    if (mustAnswer) dialog.addEventListener("cancel", (event) => event.preventDefault());
    else dialog.addEventListener("mousedown", (event) => event.target === dialog && dialog.close());
    return new Promise((resolve) => {
        dialog.addEventListener("close", () => {
            dialog.remove();
            resolve(answer);
        });
        document.body.append(dialog);
        dialog.showModal();
        const first = form.querySelector("input:not([type=radio]), input:checked, .primary");
        if (first instanceof HTMLElement) first.focus();
        if (first instanceof HTMLInputElement) first.select();
    });
}

/**
 * Asks for one line.
 * @param {string} title
 * @param {string} label
 * @param {string} value
 * @param {string} done the button's text
 */
export async function askForText(title, label, value, done) {
    const input = h("input", { type: "text", value, "aria-label": label, maxlength: 200 });
    const answer = await ask({
        title,
        body: [input],
        actions: [{ label: done, value: "done", primary: true }],
        check: () => input.value.trim() !== "",
    });
    return answer === null ? null : input.value.trim();
}

/**
 * A menu at a button: arrows move, Esc and a click elsewhere close.
 * @param {HTMLElement} button
 * @param {string} label
 * @param {{label: string, run: () => void, danger?: boolean}[]} items
 */
export function menu(button, label, items) {
    const entries = items.map(({ label, run, danger }) => h("button", {
        type: "button",
        role: "menuitem",
        tabindex: -1,
        class: danger ? "quiet danger" : "quiet",
        onclick: () => {
            dialog.close();
            run();
        },
    }, label));
    const list = h("div", { role: "menu", "aria-label": label }, entries);
    const dialog = h("dialog", { class: "menu", "aria-label": label }, list);
    dialog.addEventListener("mousedown", (event) => event.target === dialog && dialog.close());
    dialog.addEventListener("keydown", (event) => {
        const at = entries.indexOf(/** @type {any} */ (document.activeElement));
        const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
        if (event.key === "Tab") dialog.close();
        if (to === undefined) return;
        event.preventDefault();
        entries.at(to % entries.length)?.focus();
    });
    dialog.addEventListener("close", () => {
        dialog.remove();
        button.setAttribute("aria-expanded", "false");
    });
    document.body.append(dialog);
    button.setAttribute("aria-expanded", "true");
    dialog.showModal();
    const at = button.getBoundingClientRect();
    const { width, height } = dialog.getBoundingClientRect();
    const below = at.bottom + height + 8 < innerHeight;
    dialog.style.setProperty("left", `${Math.max(8, Math.min(at.right - width, innerWidth - width - 8))}px`);
    dialog.style.setProperty("top", `${Math.max(8, below ? at.bottom + 4 : at.top - height - 4)}px`);
    entries[0]?.focus();
}

let count = 0;
