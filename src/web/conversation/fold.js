// Items: what is shown of events. The fold is what all pages of a transcript have in common.

/**
 * @typedef {{
 *   key: number, seq: number, time?: number, owner: ToolItem | null,
 * }} Common `owner`: the tool whose sub-agent it belongs to
 * @typedef {{mediaType: string, data: string} | {url: string}} Picture
 * @typedef {{name: string, mediaType: string, bytes: number}} Attachment
 * @typedef {Common & {kind: "prompt", text: string, promptId?: string, messageId?: string, attachments: Attachment[],
 *   pictures: Picture[]}} PromptItem
 * @typedef {Common & {kind: "text" | "thinking", text: string, streaming: boolean, partial: boolean, whole: boolean,
 *   failed?: boolean}} TextItem `partial`: some of it was missed, or is not there yet
 * @typedef {Common & {kind: "tool", id: string, name: string, input: any, inputText: string, whole: boolean,
 *   state: "running" | "done" | "failed" | "ended", result: {text: string, pictures: Picture[]} | null, details: any,
 *   children: Item[], asked?: string}} ToolItem `name` is empty as long as the use itself is on a page that is not here;
 *   `asked`: a permission is asked for (`open`), or what was answered
 * @typedef {Common & {kind: "picture", picture: Picture}} PictureItem
 * @typedef {Common & {kind: "result", status: "done" | "interrupted" | "failed", reason: string, code?: string,
 *   total?: number, costUsd?: number, durationMs?: number, inputTokens?: number, outputTokens?: number,
 *   promptId?: string}} ResultItem `total`: what the process has cost until then
 * @typedef {Common & {kind: "notice", level: string, code: string, text: string}} NoticeItem
 * @typedef {Common & {kind: "permission", requestId: string, behavior: string, by: string,
 *   toolName: string}} PermissionItem
 * @typedef {Common & {kind: "boundary", text: string}} BoundaryItem
 * @typedef {Common & {kind: "retry", attempt: number, attemptsMax: number, over: boolean}} RetryItem
 * @typedef {Common & {kind: "output", text: string}} OutputItem
 * @typedef {Common & {kind: "other", name: string, value: any}} OtherItem a block that is not known here
 * @typedef {Common & {kind: "truncated", bytes: number}} TruncatedItem
 * @typedef {PromptItem | TextItem | ToolItem | PictureItem | ResultItem | NoticeItem | PermissionItem | BoundaryItem
 *   | RetryItem | OutputItem | OtherItem | TruncatedItem} Item
 */

export class Fold {
    /** @type {Item[]} */
    items = [];
    cwd = "";
    /** Whether the session's very first event is here. */
    begins = false;
    /** @type {Map<string, ToolItem>} */
    tools = new Map();
    /** What a permission was asked for: the tool, and which use of it. @type {Map<string, {name: string, use: string}>} */
    asked = new Map();
    /** Where the answer stands. @type {Map<string, PermissionItem>} */
    answered = new Map();
    /** @type {Map<string, PromptItem>} */
    prompts = new Map();
    /** @type {Map<number, TruncatedItem>} */
    #truncated = new Map();
    /** @type {Set<Item>} */
    #changed = new Set();
    #moved = false;
    #keys = 0;

    nextKey() {
        return ++this.#keys;
    }

    /** @param {Item} item */
    touch(item) {
        this.#changed.add(item);
    }

    takeChanged() {
        const changed = this.#changed;
        this.#changed = new Set();
        return changed;
    }

    takeMoved() {
        const moved = this.#moved;
        this.#moved = false;
        return moved;
    }

    /** @param {number} seq */
    truncatedAt(seq) {
        return this.#truncated.get(seq);
    }

    /** @param {TruncatedItem} item */
    rememberTruncated(item) {
        this.#truncated.set(item.seq, item);
    }

    /** @param {Item} item */
    remove(item) {
        const list = this.listOf(item.owner);
        const at = list.indexOf(item);
        if (at < 0) return;
        list.splice(at, 1);
        if (item.kind === "truncated") this.#truncated.delete(item.seq);
        if (item.owner) this.touch(item.owner);
        else this.#moved = true;
    }

    /** @param {ToolItem | null} owner */
    listOf(owner) {
        return owner ? owner.children : this.items;
    }
}
