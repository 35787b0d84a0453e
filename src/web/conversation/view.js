// The conversation as it is seen. Of a long one only a window of items is in the document; it moves as one scrolls.
// While one looks at the end, the view follows it; whoever scrolls up stays where they are, whatever happens above and
// below.

import { h } from "../dom.js";
import { Announcer } from "./announcer.js";
import { makeComponent } from "./items.js";

/**
 * @typedef {import("../transcript.js").Transcript} Transcript
 * @typedef {import("./fold.js").Item} Item
 * @typedef {import("./items.js").Component} Component
 */

/** Beyond so many items in the document those are taken out that are out of sight. */
const ITEMS_MAX = 160;

/** What is shown at first, and what is added at a time. */
const FIRST_ITEMS = 24;
const STEP_ITEMS = 6;

/** The same for one who is at the edge already, and sees nothing come otherwise. */
const HASTY_ITEMS = 20;

/** So near to the end one is at the end. */
const END_PX = 40;

/** After there were no older events to be had, it is tried again: the connection may have been gone. */
const OLDER_AGAIN_MS = 2000;

export class ConversationView {
    #element;
    #options;
    #items = h("div", { class: "items" });
    #announcer = new Announcer();
    /** @type {Transcript | null} */
    #transcript = null;
    /** Of the items in the window and what is in them. @type {Map<Item, Component>} */
    #components = new Map();
    /** The window: items from `start` to before `end`. */
    #start = 0;
    #end = 0;
    /** How many items there were in the last frame. */
    #known = 0;
    #following = true;
    #lastTop = 0;
    /** What stays where it is while one reads. @type {{element: Element, top: number} | null} */
    #anchor = null;
    /** What has happened since the last frame. @type {Set<Item>} */
    #changed = new Set();
    #moved = false;
    #frame = 0;
    #loading = false;
    #olderAgain = 0;

    /** @type {import("./items.js").Context} */
    #context = {
        cwd: () => this.#transcript?.cwd ?? "",
        fetchWhole: (seq) => this.#fetchWhole(seq),
        opened: new Map(),
        component: (item) => this.#component(item),
        forget: (item) => this.#forget(item),
        reads: () => this.#stay(),
    };

    /**
     * @param {HTMLElement} element the scrolling one, with role log
     * @param {{
     *   loadOlder: () => Promise<boolean>, fetchEvent: (seq: number) => Promise<object | null>,
     *   jumpButton: HTMLButtonElement,
     * }} options `loadOlder`: false where there is no more
     */
    constructor(element, options) {
        this.#element = element;
        this.#options = options;
        element.classList.add("conversation");
        // Every delta would be read out otherwise. What is to be heard, the announcer says when it is complete.
        element.setAttribute("aria-live", "off");
        if (!element.hasAttribute("tabindex")) element.tabIndex = 0;
        element.append(this.#items);
        element.after(this.#announcer.element);
        element.addEventListener("scroll", () => this.#scrolled(), { passive: true });
        element.addEventListener("keydown", (event) => {
            if (event.key === "End" && event.target === element) this.toEnd();
        });
        options.jumpButton.addEventListener("click", () => {
            this.toEnd();
            element.focus({ preventScroll: true });
        });
        const sizes = new ResizeObserver(() => this.#settle());
        sizes.observe(element);
        sizes.observe(this.#items);
        options.jumpButton.hidden = true;
    }

    /** @param {Transcript} transcript */
    show(transcript) {
        if (this.#transcript) this.#transcript.onChange = null;
        this.#transcript = transcript;
        this.#components.clear();
        this.#context.opened.clear();
        this.#changed.clear();
        this.#items.replaceChildren();
        [this.#start, this.#end, this.#olderAgain, this.#anchor, this.#loading] = [0, 0, 0, null, false];
        this.#announcer.restart(transcript.items);
        transcript.onChange = ({ items, moved }) => {
            for (const item of items) this.#changed.add(item);
            this.#moved ||= moved;
            this.#schedule();
        };
        this.toEnd();
    }

    /** Follows no longer: what one looks at stays where it is. */
    #stay() {
        this.#following = false;
        this.#look();
    }

    toEnd() {
        const length = this.#transcript?.items.length ?? 0;
        this.#following = true;
        if (this.#end < length || this.#start === length) this.#start = Math.max(0, length - FIRST_ITEMS);
        this.#draw();
    }

    #schedule() {
        this.#frame ||= requestAnimationFrame(() => {
            this.#frame = 0;
            this.#draw();
        });
    }

    #draw() {
        const items = this.#transcript?.items ?? [];
        if (this.#moved) this.#findWindow(items);
        const news = !this.#following && !this.#moved && this.#changed.size > 0;
        this.#moveWindow(items);
        this.#known = items.length;
        this.#announcer.hear(this.#changed, this.#moved);
        for (const item of this.#changed) this.#components.get(item)?.update?.();
        this.#changed.clear();
        this.#moved = false;
        this.#sync(items);
        this.#settle();
        if (news) this.#options.jumpButton.dataset.new = "";
        if (this.#lacksAbove() || this.#lacksBelow(items)) this.#schedule();
        else if (this.#start === 0 && this.#isNearTop()) void this.#older();
    }

    /** After something has changed elsewhere than at the end. @param {Item[]} items */
    #findWindow(items) {
        const there = new Map(items.map((item, at) => [item, at]));
        const places = [...this.#components.keys()].map((item) => there.get(item)).filter((at) => at !== undefined);
        if (places.length) [this.#start, this.#end] = [Math.min(...places), Math.max(...places) + 1];
        this.#end = Math.min(this.#end, items.length);
        this.#start = Math.min(this.#start, this.#end);
    }

    /** @param {Item[]} items */
    #moveWindow(items) {
        const above = this.#lacksAbove();
        const below = this.#lacksBelow(items);
        const { clientHeight, scrollTop } = this.#element;
        const step = (above && scrollTop < END_PX) || (below && this.#pxBelow() < END_PX) ? HASTY_ITEMS : STEP_ITEMS;
        if (above) this.#start = Math.max(0, this.#start - step);
        if (this.#following) {
            this.#end = items.length;
            if (this.#end - this.#start > ITEMS_MAX) this.#start = this.#end - ITEMS_MAX / 2;
            return;
        }
        // What comes while one reads just above the end is there when one gets to it.
        if (this.#end === this.#known) this.#end = Math.max(this.#end, Math.min(items.length, this.#start + ITEMS_MAX));
        else if (below) this.#end = Math.min(items.length, this.#end + step);
        if (this.#end - this.#start <= ITEMS_MAX) return;
        // Only what is well out of sight goes: otherwise it would have to come back at once.
        const { top, bottom } = this.#element.getBoundingClientRect();
        const first = this.#components.get(items[this.#start + step])?.element.getBoundingClientRect();
        const last = this.#components.get(items[this.#end - 1 - step])?.element.getBoundingClientRect();
        if (above && last && last.top > bottom + 1.5 * clientHeight) this.#end -= step;
        else if (below && first && first.bottom < top - 1.5 * clientHeight) this.#start += step;
    }

    #isNearTop() {
        return this.#element.scrollTop < this.#element.clientHeight && this.#element.clientHeight > 0;
    }

    #lacksAbove() {
        return this.#start > 0 && this.#isNearTop();
    }

    /** @param {Item[]} items */
    #lacksBelow(items) {
        return this.#end < items.length && this.#pxBelow() < this.#element.clientHeight;
    }

    #pxBelow() {
        return this.#element.scrollHeight - this.#element.scrollTop - this.#element.clientHeight;
    }

    /** Puts the window's items, and no others, into the document. @param {Item[]} items */
    #sync(items) {
        const wanted = new Set(items.slice(this.#start, this.#end));
        for (const item of [...this.#components.keys()]) if (!item.owner && !wanted.has(item)) this.#forget(item);
        let next = this.#items.firstElementChild;
        for (const item of wanted) {
            const { element } = this.#component(item);
            if (element === next) next = next.nextElementSibling;
            else this.#items.insertBefore(element, next);
        }
        while (next) {
            const after = next.nextElementSibling;
            next.remove();
            next = after;
        }
    }

    /** @param {Item} item */
    #component(item) {
        let component = this.#components.get(item);
        if (!component) {
            component = makeComponent(item, this.#context);
            this.#components.set(item, component);
        }
        return component;
    }

    /** @param {Item} item */
    #forget(item) {
        const component = this.#components.get(item);
        if (!component) return;
        this.#components.delete(item);
        component.element.remove();
        if (item.kind === "tool") item.children.forEach((child) => this.#forget(child));
    }

    /** Keeps in its place what one looks at, after anything has another size. */
    #settle() {
        const element = this.#element;
        if (this.#following) element.scrollTop = element.scrollHeight;
        else if (this.#anchor?.element.isConnected) {
            const top = this.#anchor.element.getBoundingClientRect().top - element.getBoundingClientRect().top;
            const off = top - this.#anchor.top;
            if (Math.abs(off) >= 1) element.scrollTop += off;
        }
        this.#lastTop = element.scrollTop;
        this.#look();
    }

    #scrolled() {
        const { scrollTop } = this.#element;
        // What has come and is not drawn yet does not count: the view may have grown in the same moment.
        const below = this.#end === this.#known ? this.#pxBelow() : Infinity;
        if (below <= 2 || (scrollTop > this.#lastTop && below <= END_PX)) this.#following = true;
        // A finger that has only begun to move is meant, too.
        else if (scrollTop < this.#lastTop - 1) this.#following = false;
        this.#lastTop = scrollTop;
        this.#look();
        if (this.#isNearTop() || this.#lacksBelow(this.#transcript?.items ?? [])) this.#schedule();
    }

    /** Remembers what one looks at. */
    #look() {
        this.#options.jumpButton.hidden = this.#following;
        if (this.#following) {
            delete this.#options.jumpButton.dataset.new;
            this.#anchor = null;
            return;
        }
        const { top } = this.#element.getBoundingClientRect();
        const { children } = this.#items;
        let [low, high] = [0, children.length - 1];
        while (low < high) {
            const middle = (low + high) >> 1;
            if (children[middle].getBoundingClientRect().bottom > top) high = middle;
            else low = middle + 1;
        }
        const element = children[low];
        this.#anchor = element ? { element, top: element.getBoundingClientRect().top - top } : null;
    }

    async #older() {
        if (this.#loading || performance.now() < this.#olderAgain || !this.#transcript?.firstSeq) return;
        this.#loading = true;
        const transcript = this.#transcript;
        const more = await this.#options.loadOlder().catch(() => false);
        // Another one is shown, and may be loading by itself.
        if (transcript !== this.#transcript) return;
        this.#loading = false;
        if (!more) this.#olderAgain = performance.now() + OLDER_AGAIN_MS;
        // A page may hold nothing that is shown.
        else this.#schedule();
    }

    /** @param {number} seq */
    async #fetchWhole(seq) {
        const transcript = this.#transcript;
        const whole = await this.#options.fetchEvent(seq).catch(() => null);
        if (whole) transcript?.fill(seq, whole);
        return whole !== null;
    }
}
