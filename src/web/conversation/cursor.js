// A place in the fold where events become items: the end, which lives, or an older page that is put before it when it
// is complete.
//
// A tool's use, its result and what its sub-agent says may be on different pages, and the newer one is here first. So a
// tool is one item from the first that is heard of it, and moves to its place when the use itself comes.

import { Messages } from "./messages.js";

/**
 * @typedef {import("./fold.js").Fold} Fold
 * @typedef {import("./fold.js").Common} Common
 * @typedef {import("./fold.js").Item} Item
 * @typedef {import("./fold.js").ToolItem} ToolItem
 * @typedef {import("./fold.js").PromptItem} PromptItem
 * @typedef {import("./fold.js").ResultItem} ResultItem
 * @typedef {import("./fold.js").Picture} Picture
 */

/** Notices after which nothing that was running goes on. */
const ENDINGS = new Set(["agent_exited", "agent_failed", "interrupted"]);

/** By so much of it a sentence of Claude's is known again: the server cuts it. */
const SAID_CHARS = 200;

export class Cursor {
    /** @type {Map<ToolItem | null, Item[]>} */
    #lists = new Map();
    /** What has begun and not ended. @type {Set<Item>} */
    #open = new Set();
    /** Whether something has ended all that was open before. */
    #settled = false;
    /** @type {ResultItem[]} */
    #results = [];
    #messages = new Messages(this);
    #interrupted = false;
    #seq = 0;
    /** @type {number | undefined} */
    #time;

    /**
     * @param {Fold} fold
     * @param {boolean} [apart] in lists of its own, to be joined
     */
    constructor(fold, apart = false) {
        this.fold = fold;
        this.apart = apart;
    }

    /**
     * @param {string} name
     * @param {any} data
     * @param {number} seq
     * @param {number} [time]
     */
    event(name, data, seq, time) {
        [this.#seq, this.#time] = [seq, time];
        try {
            this.#event(name, data);
        } catch {
            // Shapes change with every version of Claude Code: one that is not as expected costs itself only.
            this.add({ kind: "other", name, value: data });
        }
    }

    /**
     * @param {string} name
     * @param {any} data
     */
    #event(name, data) {
        if (data.damaged) {
            const text = "What happened here cannot be read any more.";
            this.add({ kind: "notice", level: "warning", code: "damaged", text });
        } else if (data.truncated) {
            this.fold.rememberTruncated(this.add({ kind: "truncated", bytes: Number(data.bytes ?? 0) }));
        } else if (name === "prompt") this.#prompt(data);
        else if (name === "notice") this.#notice(data);
        else if (name === "permissionRequest") this.#asked(data);
        else if (name === "permissionResolved") this.#answered(data);
        else if (name === "claudeEvent" && data.event) this.#line(data.event);
    }

    /** @param {any} line a `stream_event` */
    delta(line) {
        if (line.type === "stream_event") this.#messages.delta(line);
    }

    /** Some deltas will never come. */
    missed() {
        for (const item of this.#open) if ("partial" in item) item.partial = true;
    }

    /** How a prompt ended, for those who get no line of Claude's about it. @param {any} data */
    response(data) {
        const known = this.#results.at(-1);
        if (known && known.seq === data.seq) {
            known.promptId ??= data.promptId;
            known.costUsd = data.costUsd ?? known.costUsd;
            known.code ??= data.code;
            this.fold.touch(known);
        } else if (!this.#results.some((result) => result.promptId === data.promptId)) {
            this.settle();
            const { status, error, code, costUsd, durationMs, promptId } = data;
            const kind = /** @type {const} */ ("result");
            this.#results.push(this.add({ kind, status, reason: error ?? "", code, costUsd, durationMs, promptId }));
        }
    }

    /**
     * @template {{kind: Item["kind"]}} Made
     * @param {Made} made
     * @param {ToolItem | null} [owner]
     * @returns {Made & Common}
     */
    add(made, owner = null) {
        const item = { key: this.fold.nextKey(), seq: this.#seq, time: this.#time, owner, ...made };
        this.place(/** @type {any} */ (item));
        return item;
    }

    /** @param {Item} item */
    place(item) {
        this.#listOf(item.owner).push(item);
        this.fold.touch(item);
        if (item.owner) this.fold.touch(item.owner);
    }

    /**
     * The tool of that id, if need be one of which nothing else is known.
     * @param {string} id
     */
    tool(id) {
        let tool = this.fold.tools.get(id);
        if (!tool) {
            /** @type {ToolItem} */
            const made = this.add({
                kind: /** @type {const} */ ("tool"), id, name: "", input: {}, inputText: "", whole: false,
                state: /** @type {ToolItem["state"]} */ ("running"), result: null, details: null,
                children: /** @type {Item[]} */ ([]),
            });
            tool = made;
            this.fold.tools.set(id, tool);
            this.#open.add(tool);
        }
        return tool;
    }

    /**
     * A tool is used here: it comes to its place.
     * @param {string} id
     * @param {string} name
     * @param {ToolItem | null} owner
     */
    use(id, name, owner) {
        const known = this.fold.tools.get(id);
        const tool = known ?? this.tool(id);
        for (let above = owner; above; above = above.owner) if (above === tool) owner = null;
        if (!tool.name && (known || owner)) {
            this.drop(tool);
            tool.owner = owner;
            [tool.seq, tool.time] = [this.#seq, this.#time];
            this.place(tool);
        }
        tool.name ||= name;
        this.fold.touch(tool);
        return tool;
    }

    /** @param {Item} item */
    open(item) {
        this.#open.add(item);
    }

    /** @param {Item} item */
    close(item) {
        this.#open.delete(item);
        this.fold.touch(item);
    }

    /** Whatever still runs has ended without saying so. */
    settle() {
        this.#settled = true;
        for (const item of this.#open) {
            if (item.kind === "tool" && item.state === "running") item.state = "ended";
            if ("streaming" in item) item.streaming = false;
            this.fold.touch(item);
        }
        this.#open.clear();
        this.#messages.forget();
        this.endRetry();
    }

    /** Puts a page before all that is there. @param {Cursor} live */
    joinBefore(live) {
        for (const [owner, list] of this.#lists) {
            const rest = this.fold.listOf(owner);
            rest.splice(0, 0, ...list);
            if (owner) this.fold.touch(owner);
        }
        this.#hand(live);
        live.#results.unshift(...this.#results);
        live.#costs();
    }

    /**
     * @param {number} seq
     * @param {Cursor} live
     */
    joinInPlaceOf(seq, live) {
        const gap = this.fold.truncatedAt(seq);
        if (!gap) return;
        const at = this.fold.listOf(gap.owner).indexOf(gap);
        this.fold.remove(gap);
        for (const [owner, list] of this.#lists) {
            const rest = this.fold.listOf(owner);
            rest.splice(owner === gap.owner ? at : rest.length, 0, ...list);
            if (owner) this.fold.touch(owner);
        }
        this.#hand(live);
        live.#results.push(...this.#results);
        live.#results.sort((a, b) => a.seq - b.seq);
        live.#costs();
    }

    /** What is still open here may end there. @param {Cursor} live */
    #hand(live) {
        if (live.#settled) this.settle();
        for (const item of this.#open) live.#open.add(item);
        live.#settled ||= this.#settled;
    }

    /** @param {ToolItem | null} owner */
    #listOf(owner) {
        if (!this.apart) return this.fold.listOf(owner);
        const list = this.#lists.get(owner) ?? [];
        this.#lists.set(owner, list);
        return list;
    }

    /** @param {any} data */
    #prompt(data) {
        this.settle();
        const attachments = Array.isArray(data.attachments) ? data.attachments : [];
        const item = this.add({
            kind: /** @type {const} */ ("prompt"), text: String(data.text ?? ""), promptId: data.promptId,
            messageId: data.userMessageId, attachments, pictures: /** @type {Picture[]} */ ([]),
        });
        if (item.messageId) this.fold.prompts.set(item.messageId, item);
    }

    /** @param {any} data */
    #notice({ level = "info", code = "", text = "" }) {
        if (ENDINGS.has(code)) this.settle();
        if (level === "error") this.#forgetSaid(String(text));
        this.add({ kind: "notice", level: String(level), code: String(code), text: String(text) });
    }

    /** What Claude said in the model's place is in the notice, which also tells what to do. @param {string} text */
    #forgetSaid(text) {
        for (const item of this.#listOf(null).slice(-3)) {
            const says = (/** @type {string} */ said) => text.includes(said.trim().slice(0, SAID_CHARS));
            if (item.kind === "text" && item.failed && says(item.text)) this.drop(item);
            if (item.kind === "result" && item.reason && says(item.reason)) {
                item.reason = "";
                this.fold.touch(item);
            }
        }
    }

    /** Takes out what may stand in a list of this cursor's own. @param {Item} item */
    drop(item) {
        const list = this.#listOf(item.owner);
        const at = list.indexOf(item);
        if (at >= 0 && this.apart) list.splice(at, 1);
        else this.fold.remove(item);
    }

    /** @param {any} data */
    #asked(data) {
        const asked = { name: String(data.toolName ?? ""), use: String(data.request?.tool_use_id ?? "") };
        this.fold.asked.set(data.requestId, asked);
        const answer = this.fold.answered.get(data.requestId);
        this.#mark(asked.use, answer?.behavior ?? "open");
        if (!answer) return;
        answer.toolName = asked.name;
        this.fold.touch(answer);
    }

    /** @param {any} data */
    #answered({ requestId, behavior, by }) {
        const { name: toolName, use } = this.fold.asked.get(requestId) ?? { name: "", use: "" };
        this.#mark(use, String(behavior));
        const kind = /** @type {const} */ ("permission");
        const item = this.add({ kind, requestId, behavior: String(behavior), by: String(by ?? ""), toolName });
        this.fold.answered.set(requestId, item);
    }

    /**
     * What was answered to the question for that use of a tool.
     * @param {string} use
     * @param {string} asked
     */
    #mark(use, asked) {
        const tool = this.fold.tools.get(use);
        if (!tool) return;
        tool.asked = asked;
        this.fold.touch(tool);
    }

    /** @param {any} line */
    #line(line) {
        switch (line.type) {
            case "stream_event":
                return this.#messages.delta(line);
            case "assistant":
                return this.#messages.assistant(line);
            case "user":
                if (this.#messages.user(line)) this.#interrupted = true;
                return;
            case "result":
                return this.#result(line);
            case "system":
                return this.#system(line);
            case "conversation_reset":
                this.add({ kind: "boundary", text: "Claude has forgotten what is above" });
        }
    }

    /** @param {any} line */
    #system(line) {
        switch (line.subtype) {
            case "init":
                this.settle();
                this.#interrupted = false;
                if (typeof line.cwd === "string") this.fold.cwd = line.cwd;
                return;
            case "compact_boundary":
                this.add({ kind: "boundary", text: compacted(line.compact_metadata ?? line.compactMetadata) });
                return;
            case "conversation_reset":
                this.add({ kind: "boundary", text: "Claude has forgotten what is above" });
                return;
            case "local_command_output":
                this.add({ kind: "output", text: String(line.content ?? "") });
                return;
            case "api_retry":
                return this.#retry(line);
            case "task_notification": {
                const text = `A task in the background has ended (${line.status ?? "done"}): ${line.summary ?? ""}`;
                this.add({ kind: "notice", level: "info", code: "task", text });
            }
        }
    }

    /** @param {any} line */
    #retry(line) {
        const last = this.#listOf(null).at(-1);
        const attempt = Number(line.attempt ?? 1);
        const attemptsMax = Number(line.max_retries ?? 0);
        if (last?.kind === "retry" && !last.over) {
            Object.assign(last, { attempt, attemptsMax });
            this.fold.touch(last);
        } else this.open(/** @type {any} */ (this.add({ kind: "retry", attempt, attemptsMax, over: false })));
    }

    /** The API has answered, or nothing is asked any more. */
    endRetry() {
        const last = this.#listOf(null).at(-1);
        if (last?.kind !== "retry" || last.over) return;
        last.over = true;
        this.close(last);
    }

    /** @param {any} line */
    #result(line) {
        this.settle();
        const reason = [line.result, line.errors?.[0]].find((text) => typeof text === "string" && text) ?? "";
        const stopped = this.#interrupted || (line.subtype === "error_during_execution" && !reason);
        const done = line.subtype === "success" && !line.is_error;
        const usage = line.usage ?? {};
        /** @type {ResultItem} */
        const item = this.add({
            kind: /** @type {const} */ ("result"), status: done ? "done" : stopped ? "interrupted" : "failed",
            reason: done || stopped ? "" : reason || words(line.subtype), total: number(line.total_cost_usd),
            durationMs: number(line.duration_ms), outputTokens: number(usage.output_tokens),
            inputTokens: sum(usage.input_tokens, usage.cache_read_input_tokens, usage.cache_creation_input_tokens),
        });
        this.#interrupted = false;
        this.#results.push(item);
        this.#cost(this.#results.length - 1);
    }

    /** Claude tells what a process has cost so far: a turn's part is what has come to it. @param {number} at */
    #cost(at) {
        const { [at - 1]: before, [at]: item } = this.#results;
        if (item.total === undefined) return;
        const from = before ? (before.total ?? 0) : 0;
        // Of the first one here that is known only if nothing came before it.
        const cost = before || this.fold.begins ? item.total - (item.total >= from ? from : 0) : undefined;
        if (item.costUsd === cost) return;
        item.costUsd = cost;
        this.fold.touch(item);
    }

    #costs() {
        this.#results.forEach((_, at) => this.#cost(at));
    }
}

/** @param {any} about */
function compacted(about) {
    const tokens = number(about?.pre_tokens ?? about?.preTokens);
    const size = tokens ? `, of ${Math.round(tokens / 1000)}k tokens` : "";
    return `Claude goes on with a summary of what is above${size}`;
}

/** @param {any} subtype `error_max_turns`, in words */
function words(subtype) {
    return String(subtype ?? "").replace(/^error_/, "").replaceAll("_", " ");
}

/**
 * @param {any} value
 * @returns {number | undefined}
 */
function number(value) {
    return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}

/** @param {any[]} values */
function sum(...values) {
    const known = values.map(number).filter((value) => value !== undefined);
    return known.length ? known.reduce((all, value) => all + value, 0) : undefined;
}
