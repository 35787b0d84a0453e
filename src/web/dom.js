// The little that the page needs on top of the DOM: making elements, and keeping lists of them in step with data.

/**
 * What an element is given: `class`, `dataset`, `on…` listeners, properties that have no attribute, and attributes.
 * `null`, `undefined` and `false` leave one out, `true` is an attribute without a value.
 * @typedef {{[name: string]: any}} Props
 */

/** @typedef {Node | string | number | null | undefined | false | Child[]} Child */

/** Set as properties: their attributes say only what they were at first. */
const PROPERTIES = new Set(["value", "checked", "indeterminate", "open", "textContent", "htmlFor", "disabled"]);

/**
 * Makes an element. Children are nodes or texts, never HTML.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Props | null} [props]
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function h(tag, props, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(props ?? {})) {
        if (value === null || value === undefined) continue;
        if (name.startsWith("on")) element.addEventListener(name.slice(2).toLowerCase(), value);
        else if (name === "dataset") Object.assign(element.dataset, value);
        else if (PROPERTIES.has(name)) /** @type {any} */ (element)[name] = value;
        else if (value !== false) element.setAttribute(name, value === true ? "" : String(value));
    }
    append(element, children);
    return element;
}

/**
 * A button that submits nothing.
 * @param {Child} label
 * @param {(event: Event) => void} onclick
 * @param {Props} [props]
 */
export function button(label, onclick, props) {
    return h("button", { type: "button", onclick, ...props }, label);
}

/**
 * The small one that takes something away.
 * @param {string} label what screen readers say
 * @param {(event: Event) => void} onclick
 */
export function crossButton(label, onclick) {
    return button("×", onclick, { class: "quiet square", "aria-label": label });
}

/**
 * @param {Element} element
 * @param {Child[]} children
 */
function append(element, children) {
    for (const child of children) {
        if (Array.isArray(child)) append(element, child);
        else if (child !== null && child !== undefined && child !== false) {
            element.append(child instanceof Node ? child : String(child));
        }
    }
}

/**
 * The element with that id, which is in index.html.
 * @template {HTMLElement} [T=HTMLElement]
 * @param {string} id
 * @returns {T}
 */
export function byId(id) {
    const element = document.getElementById(id);
    if (!element) throw new Error(`the page has no #${id}`);
    return /** @type {T} */ (element);
}

/**
 * Writes only what has changed, so that neither a selection nor a screen reader is disturbed.
 * @param {Element} element
 * @param {string} text
 */
export function setText(element, text) {
    if (element.textContent !== text) element.textContent = text;
}

/**
 * Makes the children of `parent` those of `items`, in their order. An element stays the same one for as long as its key
 * is there, and moves only if it must: focus and what was typed stay.
 * @template Item
 * @template {HTMLElement} Made
 * @param {Element} parent
 * @param {Item[]} items
 * @param {(item: Item) => string} keyOf
 * @param {(item: Item) => Made} make
 * @param {(element: Made, item: Item) => void} [update]
 */
export function keep(parent, items, keyOf, make, update) {
    /** @type {Map<string, Element>} */
    const old = new Map();
    for (const child of parent.children) old.set(/** @type {HTMLElement} */ (child).dataset.key ?? "", child);
    const wanted = new Set(items.map(keyOf));
    for (const [key, child] of old) if (!wanted.has(key)) child.remove();
    const focused = document.activeElement;
    /** @type {Element | null} */
    let next = parent.firstElementChild;
    for (const item of items) {
        const key = keyOf(item);
        let element = /** @type {Made | undefined} */ (old.get(key));
        if (!element) {
            element = make(item);
            element.dataset.key = key;
        }
        if (element === next) next = next.nextElementSibling;
        else parent.insertBefore(element, next);
        update?.(element, item);
    }
    // An element that was moved has lost the focus.
    if (focused instanceof HTMLElement && focused !== document.activeElement && parent.contains(focused)) {
        focused.focus();
    }
}
