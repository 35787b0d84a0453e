// Messages of the API: a block comes in deltas first, then once more whole, in an `assistant` line. Both are one item.
// Whoever joins in the middle of a message gets the deltas from some point on, or none at all, and then the whole
// block.

import { partialJson } from "./partial_json.js";

/**
 * @typedef {import("./fold.js").Item} Item
 * @typedef {import("./fold.js").TextItem} TextItem
 * @typedef {import("./fold.js").ToolItem} ToolItem
 * @typedef {import("./fold.js").Picture} Picture
 * @typedef {{id: string | null, blocks: Map<number, Item>}} Message `id`: null where its beginning was missed
 */

const INTERRUPTED = "[Request interrupted by user";

/** What a user's line says in the words of a terminal. */
const LOCAL_OUTPUT = /<local-command-(?:stdout|stderr)>([\s\S]*?)<\/local-command-(?:stdout|stderr)>/;

export class Messages {
    /** The one that is being written, of Claude (null) and of each sub-agent. @type {Map<string | null, Message>} */
    #current = new Map();

    /** @param {import("./cursor.js").Cursor} cursor */
    constructor(cursor) {
        this.cursor = cursor;
    }

    /** None of them will be gone on with. */
    forget() {
        this.#current.clear();
    }

    /** @param {any} line a `stream_event` */
    delta(line) {
        const event = line.event ?? {};
        const parent = line.parent_tool_use_id ?? null;
        if (event.type === "message_start") {
            this.cursor.endRetry();
            this.#current.set(parent, { id: event.message?.id ?? null, blocks: new Map() });
            return;
        }
        if (!this.#current.has(parent)) this.#current.set(parent, { id: null, blocks: new Map() });
        const { blocks } = /** @type {Message} */ (this.#current.get(parent));
        const index = Number(event.index ?? 0);
        if (event.type === "content_block_start") {
            const item = this.#begin(event.content_block ?? {}, parent);
            if (item) blocks.set(index, item);
        } else if (event.type === "content_block_delta") {
            const item = blocks.get(index) ?? this.#beginLate(event.delta ?? {}, parent);
            if (!item) return;
            blocks.set(index, item);
            this.#grow(item, event.delta ?? {});
        } else if (event.type === "content_block_stop") {
            const item = blocks.get(index);
            if (item && "streaming" in item) {
                item.streaming = false;
                this.cursor.close(item);
            }
        }
    }

    /** @param {any} line */
    assistant(line) {
        const parent = line.parent_tool_use_id ?? null;
        const owner = this.#owner(parent);
        const message = this.#current.get(parent);
        const id = line.message?.id ?? null;
        this.cursor.endRetry();
        if (message && message.id === null) message.id = id;
        const open = message && message.id === id ? [...message.blocks.values()] : [];
        const content = line.message?.content;
        const blocks = typeof content === "string" ? [{ type: "text", text: content }] : list(content);
        for (const block of blocks) this.#whole(block, open, owner, Boolean(line.error));
    }

    /**
     * @param {any} line
     * @returns {boolean} whether it says that the user has stopped Claude
     */
    user(line) {
        const content = line.message?.content;
        const blocks = typeof content === "string" ? [{ type: "text", text: content }] : list(content);
        if (line.isReplay) {
            const prompt = this.cursor.fold.prompts.get(line.uuid);
            if (prompt && prompt.pictures.length === 0) {
                prompt.pictures = blocks.flatMap(pictureOf);
                if (prompt.pictures.length) this.cursor.fold.touch(prompt);
            }
        }
        let interrupted = false;
        for (const block of blocks) {
            if (block?.type === "tool_result") this.#toolResult(block, line);
            else if (block?.type === "text") {
                const text = String(block.text ?? "");
                if (text.startsWith(INTERRUPTED)) interrupted = true;
                else if (line.parent_tool_use_id) this.#task(text, line.parent_tool_use_id);
                else {
                    const output = LOCAL_OUTPUT.exec(text)?.[1]?.trim();
                    if (output) this.cursor.add({ kind: "output", text: output });
                }
            }
        }
        return interrupted;
    }

    /**
     * @param {string | null} parent
     * @returns {ToolItem | null}
     */
    #owner(parent) {
        return parent === null ? null : this.cursor.tool(parent);
    }

    /** What a sub-agent was asked is in its tool's input already. @param {string} text @param {string} parent */
    #task(text, parent) {
        const tool = this.cursor.tool(parent);
        if (tool.name || tool.input.prompt) return;
        tool.input = { prompt: text };
        this.cursor.fold.touch(tool);
    }

    /**
     * @param {any} block
     * @param {string | null} parent
     * @returns {Item | undefined}
     */
    #begin(block, parent) {
        const owner = this.#owner(parent);
        if (block.type === "text") return this.#text("text", String(block.text ?? ""), owner);
        if (block.type === "thinking") return this.#text("thinking", String(block.thinking ?? ""), owner);
        if (isToolUse(block.type)) return this.cursor.use(String(block.id), String(block.name ?? ""), owner);
    }

    /**
     * @param {any} delta
     * @param {string | null} parent
     */
    #beginLate(delta, parent) {
        const kind = { text_delta: "text", thinking_delta: "thinking" }[/** @type {string} */ (delta.type)];
        if (!kind) return undefined;
        const item = this.#text(/** @type {TextItem["kind"]} */ (kind), "", this.#owner(parent));
        item.partial = true;
        return item;
    }

    /**
     * @param {TextItem["kind"]} kind
     * @param {string} text
     * @param {ToolItem | null} owner
     * @returns {TextItem}
     */
    #text(kind, text, owner) {
        const item = this.cursor.add({ kind, text, streaming: true, partial: false, whole: false }, owner);
        this.cursor.open(item);
        return item;
    }

    /**
     * @param {Item} item
     * @param {any} delta
     */
    #grow(item, delta) {
        if ("whole" in item && item.whole) return;
        if (item.kind === "tool" && delta.type === "input_json_delta") item.inputText += delta.partial_json ?? "";
        else if (item.kind === "text" && delta.type === "text_delta") item.text += delta.text ?? "";
        else if (item.kind === "thinking" && delta.type === "thinking_delta") item.text += delta.thinking ?? "";
        else return;
        this.cursor.fold.touch(item);
    }

    /**
     * @param {any} block
     * @param {Item[]} open what has come of its message in deltas
     * @param {ToolItem | null} owner
     * @param {boolean} failed Claude says in the model's place what went wrong
     */
    #whole(block, open, owner, failed) {
        if (block?.type === "text" || block?.type === "thinking" || block?.type === "redacted_thinking") {
            const kind = block.type === "text" ? "text" : "thinking";
            const text = String(block[kind] ?? "");
            const begun = open.find((item) => item.kind === kind && !item.whole);
            // Thoughts may be withheld: an item without words is none.
            if (!begun && !text.trim()) return;
            const item = /** @type {TextItem} */ (begun ?? this.#text(kind, text, owner));
            Object.assign(item, { text: text || item.text, whole: true, streaming: false, partial: false });
            if (failed) item.failed = true;
            if (!item.text.trim()) this.cursor.drop(item);
            this.cursor.close(item);
        } else if (isToolUse(block?.type)) {
            const tool = this.cursor.use(String(block.id), String(block.name ?? ""), owner);
            Object.assign(tool, { input: block.input ?? {}, inputText: "", whole: true });
        } else if (typeof block?.type === "string" && block.type.endsWith("_tool_result")) this.#toolResult(block, {});
        else if (pictureOf(block).length) this.cursor.add({ kind: "picture", picture: pictureOf(block)[0] }, owner);
        else if (block) this.cursor.add({ kind: "other", name: String(block.type ?? "?"), value: block }, owner);
    }

    /**
     * @param {any} block
     * @param {any} line
     */
    #toolResult(block, line) {
        const tool = this.cursor.tool(String(block.tool_use_id));
        const parts = typeof block.content === "string" ? [{ type: "text", text: block.content }] : list(block.content);
        const said = parts.map((part) => {
            if (typeof part?.text === "string") return part.text;
            return pictureOf(part).length ? "" : JSON.stringify(part, null, 2);
        });
        tool.result = { text: said.filter(Boolean).join("\n"), pictures: parts.flatMap(pictureOf) };
        if (block.content && !Array.isArray(block.content) && typeof block.content === "object") {
            tool.result.text = JSON.stringify(block.content, null, 2);
        }
        tool.state = block.is_error ? "failed" : "done";
        tool.details = line.tool_use_result ?? line.toolUseResult ?? null;
        this.cursor.close(tool);
    }
}

/**
 * What is known of a tool's input, also while it is being written.
 * @param {ToolItem} tool
 * @returns {any}
 */
export function inputOf(tool) {
    return tool.inputText ? (partialJson(tool.inputText) ?? {}) : (tool.input ?? {});
}

/** @param {any} type */
function isToolUse(type) {
    return type === "tool_use" || type === "server_tool_use" || type === "mcp_tool_use";
}

/**
 * @param {any} value
 * @returns {any[]}
 */
function list(value) {
    return Array.isArray(value) ? value : [];
}

/**
 * @param {any} block
 * @returns {Picture[]}
 */
function pictureOf(block) {
    const source = block?.type === "image" ? block.source : null;
    if (source?.type === "base64" && typeof source.data === "string") {
        return [{ mediaType: String(source.media_type ?? ""), data: source.data }];
    }
    return typeof source?.url === "string" ? [{ url: source.url }] : [];
}
