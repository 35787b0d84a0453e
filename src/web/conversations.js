// The conversations that this page has open, and how what the server says gets into them whole and in order.
//
// A conversation's events are numbered. Whatever comes live while a page of its history is on its way waits until that
// page is in; what was missed while away is asked for by the last number seen. Sessions in which Claude works stay
// watched when another one is shown, so that the page can tell when it asks or is done.

import { Signal } from "./signal.js";
import { Transcript } from "./transcript.js";

/** Conversations kept in memory, the shown one included. */
const KEPT_MAX = 8;

/** Events in one page of the history. */
const PAGE_EVENTS = 200;

/** What goes into a transcript. */
const TOLD = new Set(["prompt", "claudeEvent", "claudeResponse", "notice", "permissionRequest", "permissionResolved"]);

/** @typedef {import("./wire.js").Summary} Summary */
/** @typedef {import("./wire.js").Question & {resolved?: {behavior: string, by: string}}} Question */

export class Conversation {
    transcript = new Transcript();
    /** Names the numbering. @type {string | undefined} */
    logId;
    /** @type {Summary | null} */
    summary = null;
    /** @type {import("./wire.js").Command[] | null} */
    commands = null;
    /** @type {import("./wire.js").Model[] | null} */
    models = null;
    /** Those that may be chosen here. @type {string[] | null} */
    permissionModes = null;
    /** By request. @type {Map<string, Question>} */
    questions = new Map();
    /** Prompts to which files can be put back, by Claude's name. @type {Map<string, string>} */
    rewindable = new Map();
    /** The history is here from its beginning. */
    complete = false;
    watched = false;
    /** Text and files that are not sent yet belong to the composer; this is where it was scrolled to, from the end. */
    scrolledUp = 0;
    /** What came while a page is on its way. @type {[string, any][] | null} */
    #held = null;

    /** @param {string} id */
    constructor(id) {
        this.id = id;
    }

    /** From here on, what comes live is held back. */
    hold() {
        this.#held ??= [];
    }

    /** What was missed is not to be had: nor is what came behind it, and all is asked for anew the next time. */
    giveUp() {
        this.#held = null;
        this.logId = undefined;
    }

    /** @param {import("./wire.js").Item[]} items what is missing, ascending */
    release(items) {
        for (const item of items) this.#apply(item.name, item.data, item.time);
        const held = this.#held ?? [];
        this.#held = null;
        for (const [name, data] of held) this.#apply(name, data, Date.now());
    }

    /** @param {import("./wire.js").Item[]} items older ones, ascending */
    prepend(items) {
        for (const item of items) this.#note(item.name, item.data);
        this.transcript.prependPage(items);
    }

    /** Nothing is known of it any more. */
    forget() {
        this.transcript = new Transcript();
        this.complete = false;
        this.rewindable.clear();
    }

    /**
     * @param {string} name
     * @param {any} data
     */
    take(name, data) {
        if (name === "permissionRequest") this.questions.set(data.requestId, data);
        const question = name === "permissionResolved" && this.questions.get(data.requestId);
        if (question) question.resolved = { behavior: data.behavior, by: data.by };
        // Of one that is read from the history, what getSession says is newer.
        if (name === "claudeEvent" && data.event?.subtype === "commands_changed") {
            this.commands = named(data.event.commands, "name") ?? this.commands;
        }
        if (!TOLD.has(name)) return;
        if (this.#held) this.#held.push([name, data]);
        else this.#apply(name, data, Date.now());
    }

    /**
     * @param {string} name
     * @param {any} data
     * @param {number} time
     */
    #apply(name, data, time) {
        // A piece of a message that is here as a whole.
        if (data.part && data.seq < this.transcript.lastSeq) return;
        this.#note(name, data);
        this.transcript.apply({ name, data, seq: data.seq, part: data.part, time });
    }

    /**
     * @param {string} name
     * @param {any} data
     */
    #note(name, data) {
        if (name === "prompt" && data.userMessageId) this.rewindable.set(data.userMessageId, data.text);
    }
}

export class Conversations {
    /** @type {Conversation | null} */
    current = null;
    /** Another one is shown, or the same one with another transcript. @type {Signal<[]>} */
    onSwitch = new Signal();
    /** Something but its events has changed. @type {Signal<[Conversation]>} */
    onChange = new Signal();
    /** Claude's new answer to "what is there to show". @type {Signal<[Summary]>} */
    onSummary = new Signal();
    /** The session that was shown is gone; the server gave another instead. @type {Signal<[string, string]>} */
    onReplaced = new Signal();
    /** By session, the longest unused first. @type {Map<string, Conversation>} */
    #kept = new Map();
    /** What the last CONNECT named. @type {string | undefined} */
    #asked;
    /** One at a time: each says which others are left. @type {Promise<unknown>} */
    #watching = Promise.resolve();
    #connection;

    /** @param {import("./connection.js").Connection} connection */
    constructor(connection) {
        this.#connection = connection;
        connection.onEvent.listen((name, data) => this.#event(name, data));
    }

    /** What CONNECT says of the session. */
    place() {
        const current = this.current;
        this.#asked = current?.id;
        if (!current) return {};
        const seen = current.logId && current.transcript.lastSeq > 0;
        return { sessionId: current.id, ...(seen && { afterSeq: current.transcript.lastSeq, logId: current.logId }) };
    }

    /** @param {string} id */
    get(id) {
        return this.#kept.get(id);
    }

    /** Shows a session, at once with what is known of it. @param {string} id */
    async show(id) {
        if (id === this.current?.id) return;
        this.current = this.#keep(id);
        this.onSwitch.tell();
        if (this.#connection.connected && !this.current.watched) await this.#watch(this.current);
    }

    /** Lets go of all; the next CONNECT gets a session of its own. */
    leave() {
        if (this.current) this.#kept.delete(this.current.id);
        this.current = null;
    }

    /** @param {string} id */
    drop(id) {
        this.#kept.delete(id);
    }

    /** Asks for what comes before the first event that is here. Returns whether there may be more. */
    async loadOlder() {
        const conversation = this.current;
        if (!conversation || conversation.complete || !this.#connection.connected) return false;
        const beforeSeq = conversation.transcript.firstSeq;
        if (!beforeSeq) return false;
        const transcript = conversation.transcript;
        const wanted = { sessionId: conversation.id, beforeSeq, limit: PAGE_EVENTS };
        const page = await this.#connection.request("getHistory", wanted).catch(() => null);
        if (!page || transcript !== conversation.transcript) return false;
        conversation.complete = !page.more;
        conversation.prepend(page.events);
        return page.more;
    }

    /** Commands, models and open questions, which no event repeats. @param {Conversation} conversation */
    async details(conversation) {
        const got = await this.#connection.request("getSession", { sessionId: conversation.id }).catch(() => null);
        if (!got) return;
        conversation.commands = named(got.commands, "name") ?? conversation.commands;
        conversation.models = named(got.models, "value") ?? conversation.models;
        conversation.permissionModes = got.permissionModes ?? null;
        const open = new Map(got.questions.map((/** @type {Question} */ question) => [question.requestId, question]));
        for (const [id, question] of conversation.questions) {
            if (!open.has(id) && !question.resolved) conversation.questions.delete(id);
        }
        for (const [id, question] of open) {
            if (!conversation.questions.has(id)) conversation.questions.set(id, question);
        }
        this.#summarize(got.session);
    }

    /**
     * @param {string} name
     * @param {any} data
     */
    #event(name, data) {
        if (name === "sessionRegistered") return void this.#registered(data);
        // What was missed cannot be sent: everything anew.
        if (name === "serverError" && data.event === "connect" && this.current) {
            const current = this.current;
            this.#anew(current);
            return void this.#fill(current).then(() => this.details(current));
        }
        if (name === "sessionUpdated") return this.#summarize(data);
        const conversation = this.#kept.get(data?.sessionId);
        conversation?.take(name, data);
        if (conversation && name.startsWith("permission")) this.onChange.tell(conversation);
    }

    /** @param {import("./wire.js").Registered} registered */
    async #registered(registered) {
        // Another one may have been chosen since CONNECT was sent.
        const chosen = this.current?.id === this.#asked ? null : this.current;
        const shown = chosen?.id ?? registered.sessionId;
        const others = [...this.#kept.values()].filter((other) => other.watched && other.id !== shown);
        for (const conversation of this.#kept.values()) conversation.watched = false;
        await (chosen ? this.#watch(chosen).catch(() => undefined) : this.#goOn(registered));
        for (const other of others) if (isAtWork(other)) await this.#watch(other).catch(() => undefined);
    }

    /** With the session that the server gave. @param {import("./wire.js").Registered} registered */
    async #goOn({ sessionId, logId, session, requested }) {
        const before = this.current?.id ?? requested;
        if (this.current?.id !== sessionId) {
            this.current = this.#keep(sessionId);
            if (before && before !== sessionId) {
                this.#kept.delete(before);
                this.onReplaced.tell(before, sessionId);
            }
            this.onSwitch.tell();
        }
        const current = /** @type {Conversation} */ (this.current);
        current.watched = true;
        // Where something was seen the server sends by itself what follows.
        if (!current.logId || current.transcript.lastSeq === 0) {
            if (current.transcript.lastSeq > 0) this.#anew(current);
            current.logId = logId;
            await this.#fill(current);
        }
        current.logId = logId;
        this.#summarize(session);
        await this.details(current);
    }

    /** The newest page of a conversation of which nothing is here. @param {Conversation} conversation */
    async #fill(conversation) {
        conversation.hold();
        const wanted = { sessionId: conversation.id, limit: PAGE_EVENTS };
        const page = await this.#connection.request("getHistory", wanted).catch(() => null);
        if (!page) conversation.logId = undefined;
        conversation.complete = page !== null && !page.more;
        conversation.release(page?.events ?? []);
    }

    /** @param {Conversation} conversation */
    #watch(conversation) {
        const watched = this.#watching.then(() => this.#resume(conversation));
        this.#watching = watched.catch(() => undefined);
        return watched;
    }

    /** @param {Conversation} conversation */
    async #resume(conversation) {
        const { id: sessionId, logId } = conversation;
        const afterSeq = conversation.transcript.lastSeq;
        // Those in which nothing happens need not be watched, but for the one that is shown.
        const needed = (/** @type {Conversation} */ other) => other === this.current || isAtWork(other);
        const keeps = [...this.#kept.values()]
            .some((other) => other !== conversation && other.watched && needed(other));
        conversation.hold();
        /** @param {object} after */
        const resume = (after) =>
            this.#connection.request("resumeSession", { sessionId, leaveOthers: !keeps, ...after });
        try {
            let known = Boolean(logId && afterSeq > 0);
            let got = await resume(known ? { afterSeq, logId } : {}).catch((error) => {
                if (!known || !["seq_gap", "bad_request"].includes(error.code)) throw error;
                known = false;
                return resume({});
            });
            if (known && got.more) {
                // Too much was missed to read it all: from the end, as for the first time.
                known = false;
                got = { ...got, ...(await this.#connection.request("getHistory", { sessionId, limit: PAGE_EVENTS })) };
            }
            if (!known && afterSeq > 0) this.#anew(conversation);
            if (!keeps) for (const other of this.#kept.values()) other.watched = false;
            conversation.watched = true;
            conversation.logId = got.logId;
            if (!known) conversation.complete = !got.more;
            conversation.release(got.events);
            this.#summarize(got.session);
            await this.details(conversation);
        } catch (error) {
            conversation.giveUp();
            throw error;
        }
    }

    /** @param {Conversation} conversation */
    #anew(conversation) {
        conversation.forget();
        if (conversation === this.current) this.onSwitch.tell();
    }

    /** @param {Summary} summary */
    #summarize(summary) {
        const conversation = this.#kept.get(summary.sessionId);
        if (conversation) {
            const knew = conversation.summary;
            conversation.summary = summary;
            // The process has told its commands and models.
            const told = knew && knew.state !== "idle" && summary.state === "idle" && !conversation.commands;
            if (told) void this.details(conversation);
            this.onChange.tell(conversation);
        }
        this.onSummary.tell(summary);
    }

    /** @param {string} id */
    #keep(id) {
        const conversation = this.#kept.get(id) ?? new Conversation(id);
        this.#kept.delete(id);
        this.#kept.set(id, conversation);
        for (const [old, other] of this.#kept) {
            if (this.#kept.size <= KEPT_MAX) break;
            if (other !== this.current && other !== conversation) this.#kept.delete(old);
        }
        return conversation;
    }
}

/**
 * Those of a list of Claude's that have a name; the server passes them on unread.
 * @param {any} list
 * @param {string} key
 */
function named(list, key) {
    return Array.isArray(list) ? list.filter((one) => typeof one?.[key] === "string") : null;
}

/** @param {Conversation} conversation */
function isAtWork({ summary }) {
    if (summary === null) return false;
    const { state, queue, openQuestions } = summary;
    return ["busy", "waiting", "starting"].includes(state) || queue.length > 0 || openQuestions > 0;
}
