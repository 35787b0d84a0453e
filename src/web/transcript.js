// A session's events, folded into what is shown of them: a list of items that grows at its end while Claude works, and
// at its beginning while one scrolls up. Nothing here touches the DOM, so that every rule has its test in plain Node.

import { Cursor } from "./conversation/cursor.js";
import { Fold } from "./conversation/fold.js";

/**
 * What came from the server: live (`seq` and `part` are in the data), or as an item of the history.
 * @typedef {{name: string, data: any, seq?: number, part?: number, time?: number}} TranscriptEvent
 */

/**
 * @typedef {import("./conversation/fold.js").Item} Item
 * @typedef {import("./conversation/fold.js").ToolItem} ToolItem
 */

/**
 * `items`: those that are new or other than before, nested ones too. `moved`: the list has changed elsewhere than at
 * its end.
 * @typedef {{items: Set<Item>, moved: boolean}} Changes
 */

export class Transcript {
    #fold = new Fold();
    #live = new Cursor(this.#fold);
    #first = 0;
    #last = 0;
    #part = 0;

    /** The view's, while it shows this transcript. @type {((changes: Changes) => void) | null} */
    onChange = null;

    /** @returns {Item[]} */
    get items() {
        return this.#fold.items;
    }

    /** The number of the first stored event that is here; 0: none. */
    get firstSeq() {
        return this.#first;
    }

    get lastSeq() {
        return this.#last;
    }

    /** How many deltas have come since `lastSeq`. */
    get part() {
        return this.#part;
    }

    /** The directory that Claude works in, as it has last said. */
    get cwd() {
        return this.#fold.cwd;
    }

    /**
     * Adds what comes after all that is here; what was here already changes nothing.
     * @param {TranscriptEvent} event
     */
    apply(event) {
        const data = event.data ?? {};
        const seq = Number(event.seq ?? data.seq ?? 0);
        const part = Number(event.part ?? data.part ?? 0);
        if (event.name === "claudeResponse") this.#live.response(data);
        else if (part > 0) this.#delta(data, seq, part);
        else if (seq > this.#last) {
            this.#first ||= seq;
            this.#fold.begins = this.#first === 1;
            [this.#last, this.#part] = [seq, 0];
            this.#live.event(event.name, data, seq, event.time);
        }
        this.#tell(false);
    }

    /**
     * Adds an older page of the history before all that is here.
     * @param {TranscriptEvent[]} events ascending
     */
    prependPage(events) {
        const older = events.filter((event) => this.#first === 0 || numberOf(event) < this.#first);
        if (older.length === 0) return;
        if (this.#first === 0) return older.forEach((event) => this.apply(event));
        const page = new Cursor(this.#fold, true);
        for (const event of older) page.event(event.name, event.data ?? {}, numberOf(event), event.time);
        this.#first = numberOf(older[0]);
        this.#fold.begins = this.#first === 1;
        page.joinBefore(this.#live);
        this.#tell(true);
    }

    /**
     * Puts the whole of an event in place of the one that was too large to be sent.
     * @param {number} seq
     * @param {any} whole as the server gives it by HTTP
     */
    fill(seq, whole) {
        const data = whole?.data ?? whole;
        if (!data || this.#fold.truncatedAt(seq) === undefined) return;
        const piece = new Cursor(this.#fold, true);
        piece.event(whole.name ?? "claudeEvent", data.event || whole.name ? data : { event: data }, seq, whole.time);
        piece.joinInPlaceOf(seq, this.#live);
        this.#tell(true);
    }

    /** What the user has asked, oldest first. */
    prompts() {
        return this.items.flatMap((item) => (item.kind === "prompt" && item.text ? [item.text] : []));
    }

    /**
     * @param {any} data
     * @param {number} seq
     * @param {number} part
     */
    #delta(data, seq, part) {
        if (seq < this.#last || (seq === this.#last && part <= this.#part)) return;
        // Deltas are not stored: whoever was away at one never gets it, only the whole message later.
        if (part !== (seq === this.#last ? this.#part + 1 : 1)) this.#live.missed();
        // One of an event that has not come is no sign that it has: the number stays.
        if (seq === this.#last) this.#part = part;
        if (data.event) this.#live.delta(data.event);
        else this.#live.missed();
    }

    /** @param {boolean} moved */
    #tell(moved) {
        const items = this.#fold.takeChanged();
        if (items.size || moved) this.onChange?.({ items, moved: moved || this.#fold.takeMoved() });
    }
}

/** @param {TranscriptEvent} event */
function numberOf(event) {
    return Number(event.seq ?? event.data?.seq ?? 0);
}
