// How things stand: the connection, the session's state, what it has cost, what it has to do, and what is wrong.

import { withCode } from "./conversation/parts.js";
import { adviceFor, count, duration, sentence, titleOf as troubleOf } from "./conversation/words.js";
import { ask } from "./dialogs.js";
import { button, byId, crossButton, h, keep, setText } from "./dom.js";
import { keptInTab } from "./storage.js";
import { complain } from "./toasts.js";
import { lastPart, money, STATES, stateOf, titleOf } from "./words.js";

/** @typedef {import("./wire.js").Summary} Summary */
/** @typedef {"info" | "warn" | "bad"} Kind */
/** @typedef {{key: string, text: string, kind: Kind, more?: string, canClose?: boolean}} Banner */

const DEMO = "This is the demo agent, not Claude. For Claude, install Claude Code on the server's machine, log in, and " +
    "restart the server.";

/** @type {{[status: string]: string}} */
const TODO = { completed: "Done: ", in_progress: "Now: " };

/** Work that takes no longer needs no clock; from here on seconds are whole. */
const SHOWN_AFTER_MS = 9_950;

/** Clocks that go further apart tell nothing of each other. */
const SKEW_MAX_MS = 60_000;

const CONNECTION = {
    connecting: "Connecting",
    connected: "Connected",
    reconnecting: "Reconnecting",
    gone: "Server gone",
    unauthorized: "Token needed",
};

export class Status {
    /**
     * What `/health` says of the program behind the sessions.
     * @type {{agent?: string, agentVersion?: string | null, agentWarning?: string}}
     */
    #health = {};
    /** @type {Set<string>} */
    #closed = new Set((keptInTab.get("closed") ?? "").split(" "));
    /** Where Claude works, and since when. @type {Map<string, number>} */
    #since = new Map();
    #app;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        app.connection.onState.listen(() => {
            if (app.connection.connected) void this.#ask();
            this.#draw();
        });
        app.conversations.onSummary.listen((summary) => this.#clock(summary));
        app.conversations.onSwitch.listen(() => this.#draw());
        app.conversations.onChange.listen((conversation) => {
            if (conversation === app.conversations.current) this.#draw();
        });
        byId("usage").addEventListener("click", () => void this.#usage());
        // Seconds until the next try, and since Claude works.
        setInterval(() => {
            const summary = app.conversations.current?.summary ?? null;
            if (summary?.retrying) this.#draw();
            else this.#elapsed(summary);
        }, 1000);
    }

    async #ask() {
        const response = await fetch(new URL("health", document.baseURI)).catch(() => null);
        this.#health = response?.ok ? await response.json() : {};
        const { agent, agentVersion } = this.#health;
        const name = agent === "demo" ? "Demo agent" : "Claude Code";
        setText(byId("server-info"), agent ? `${name} ${agentVersion ?? ""}` : "");
        this.#draw();
    }

    #draw() {
        const { connection, conversations } = this.#app;
        const summary = conversations.current?.summary ?? null;
        byId("connection").dataset.state = connection.state;
        setText(byId("connection-text"), CONNECTION[connection.state]);
        setText(byId("title"), summary ? titleOf(summary) : "New conversation");
        setText(byId("place"), summary ? lastPart(summary.cwd) : "");
        byId("place").title = summary?.cwd ?? "";
        const asked = conversations.current?.transcript.lastSeq || summary?.running || summary?.queue.length;
        byId("log").dataset.empty = String(Boolean(conversations.current?.complete) && !asked);
        setText(byId("state-text"), told(summary));
        byId("state").dataset.state = summary ? stateOf(summary) : "";
        this.#elapsed(summary);
        setText(byId("spent"), summary && summary.costUsd > 0 ? money(summary.costUsd) : "");
        this.#context(summary);
        this.#work(summary);
        this.#banners(summary);
    }

    /** Notes since when Claude works in each session that is told of. @param {Summary} summary */
    #clock({ sessionId, state, running, lastActivity }) {
        if (state !== "busy" && state !== "waiting") return void this.#since.delete(sessionId);
        if (this.#since.has(sessionId)) return;
        // Who comes later knows it by the prompt's time, if this clock goes as the server's: it was active just now.
        const items = this.#app.conversations.get(sessionId)?.transcript.items ?? [];
        const asked = items.findLast(({ kind }) => kind === "prompt")?.time;
        const now = Date.now();
        const known = running && asked && Math.abs(now - lastActivity) <= SKEW_MAX_MS;
        this.#since.set(sessionId, known ? Math.min(asked, now) : now);
    }

    /** For how long Claude has been at work: apart from the state, which is read out. @param {Summary | null} summary */
    #elapsed(summary) {
        const since = summary?.state === "busy" && !summary.retrying && this.#since.get(summary.sessionId);
        const passed = since ? Date.now() - since : 0;
        setText(byId("elapsed"), passed >= SHOWN_AFTER_MS ? duration(passed) : "");
    }

    /** @param {Summary | null} summary */
    #context(summary) {
        const usage = byId("usage");
        const { contextTokens, contextWindow } = summary ?? {};
        usage.hidden = !contextTokens;
        if (!contextTokens) return;
        const part = contextWindow ? Math.round((100 * contextTokens) / contextWindow) : null;
        const shown = part === null ? count(contextTokens) : `${part} %`;
        setText(usage, part === null ? `${shown} tokens` : `Context ${shown}`);
        const window = contextWindow ? `, ${count(contextTokens)} of ${count(contextWindow)}` : "";
        const said = `Context: ${shown}${window} tokens`;
        usage.setAttribute("aria-label", said);
        usage.title = said;
        usage.dataset.full = String(part !== null && part >= 80);
    }

    async #usage() {
        const sessionId = this.#app.conversations.current?.id;
        const got = await this.#app.connection.request("getContextUsage", { sessionId }).catch(complain);
        if (!got) return;
        const { categories = [], totalTokens = 0, maxTokens = 0 } = got.usage;
        const rows = categories.map((/** @type {{name: string, tokens: number}} */ { name, tokens }) => {
            const bar = h("progress", { max: maxTokens || totalTokens || 1, value: tokens, "aria-label": name });
            const number = h("td", { class: "number" }, count(tokens));
            // What is free is no use of it.
            return h("tr", null, h("td", null, name), number, h("td", null, !/^free\b/i.test(name) && bar));
        });
        await ask({
            title: `Context: ${count(totalTokens)} of ${count(maxTokens)} tokens`,
            body: [h("table", { class: "usage" }, h("tbody", null, rows))],
        });
    }

    /** To-dos and background tasks. @param {Summary | null} summary */
    #work(summary) {
        const { todos = [], tasks = [] } = summary ?? {};
        const done = todos.filter(({ status }) => status === "completed").length;
        const now = todos.find(({ status }) => status === "in_progress");
        /** @type {{key: string, title: string, rows: HTMLElement[]}[]} */
        const parts = [];
        if (todos.length > 0 && done < todos.length) {
            parts.push({
                key: "todos",
                title: `To do ${done}/${todos.length}${now ? ` · ${now.text}` : ""}`,
                rows: todos.map(({ text, status }) => h("li", { dataset: { status } },
                    h("span", { class: "apart" }, TODO[status] ?? "To do: "), text)),
            });
        }
        if (tasks.length > 0) {
            parts.push({
                key: "tasks",
                title: `${tasks.length} background task${tasks.length === 1 ? "" : "s"}`,
                rows: tasks.map(({ taskId, description }) => h("li", { class: "row" },
                    h("span", { class: "clip" }, description),
                    button("Stop", () => void this.#stop(taskId), { "aria-label": `Stop ${description}` }))),
            });
        }
        const make = () => h("details", null, h("summary", { class: "clip" }), h("ul", { role: "list" }));
        keep(byId("work"), parts, ({ key }) => key, make, (element, { title, rows }) => {
            const [summary, list] = element.children;
            if (!summary || !list) return;
            setText(summary, title);
            const same = rows.every((row, at) => row.isEqualNode(list.children[at] ?? null));
            if (!same || rows.length !== list.childElementCount) list.replaceChildren(...rows);
        });
    }

    /** @param {string} taskId */
    async #stop(taskId) {
        const sessionId = this.#app.conversations.current?.id;
        await this.#app.connection.request("stopTask", { sessionId, taskId }).catch(complain);
    }

    /** @param {Summary | null} summary */
    #banners(summary) {
        const { connection } = this.#app;
        /** @type {Banner[]} */
        const banners = [];
        if (connection.state === "gone") {
            const text = `${connection.reason}. What you write is kept, and sent when it is back.`;
            banners.push({ key: "gone", kind: "bad", text });
        }
        if (this.#health.agent === "demo") {
            banners.push({ key: "demo", kind: "info", canClose: true, text: DEMO });
        }
        const { agentWarning } = this.#health;
        if (agentWarning) banners.push({ key: "old", kind: "warn", canClose: true, text: agentWarning });
        if (summary?.failure) {
            const { code, message, stderr } = summary.failure;
            // Of trouble with the model the conversation tells more.
            const advice = adviceFor(code);
            const text = advice ? `${troubleOf(code)}. ${advice}` : sentence(message);
            const key = `failure-${summary.sessionId}-${code}`;
            banners.push({ key, kind: "bad", canClose: true, text, more: stderr });
        } else if (summary) {
            // The next one is news again.
            const old = [...this.#closed].filter((key) => key.startsWith(`failure-${summary.sessionId}-`));
            for (const key of old) this.#closed.delete(key);
            if (old.length > 0) this.#keepClosed();
        }
        const limit = summary?.rateLimit;
        if (limit && limit.status !== "allowed") {
            const key = `limit-${limit.type}-${limit.status}`;
            banners.push({ key, kind: "warn", canClose: true, text: limited(limit) });
        }
        const open = banners.filter(({ key, canClose }) => !(canClose && this.#closed.has(key)));
        keep(byId("banners"), open, ({ key }) => key, (banner) => this.#banner(banner), (element, { text, more }) => {
            const line = /** @type {Element} */ (element.querySelector("p"));
            const words = h("p", null, withCode(text));
            if (!line.isEqualNode(words)) line.replaceWith(words);
            const detail = /** @type {HTMLElement} */ (element.querySelector("pre"));
            detail.hidden = !more;
            setText(detail, more ?? "");
        });
    }

    /** @param {Banner} banner */
    #banner({ key, kind, canClose }) {
        return h("div", { class: `banner ${kind}`, role: kind === "bad" ? "alert" : "status" },
            h("div", null, h("p"), h("pre", { hidden: true })),
            canClose && crossButton("Close this message", () => this.#close(key)));
    }

    /** @param {string} key */
    #close(key) {
        this.#closed.add(key);
        this.#keepClosed();
        this.#draw();
        byId("message").focus();
    }

    #keepClosed() {
        keptInTab.set("closed", [...this.#closed].join(" "));
    }
}

/** What the session does, in words. @param {Summary | null} summary */
function told(summary) {
    if (!summary) return "";
    const { retrying, state, running, queue } = summary;
    if (retrying) {
        const seconds = Math.max(0, Math.ceil((retrying.until - Date.now()) / 1000));
        const when = seconds > 0 ? ` in ${seconds} s` : "";
        return `${retrying.code.replaceAll("_", " ")}: try ${retrying.attempt} of ${retrying.attemptsMax}${when}`;
    }
    if (state === "stopped" && running !== null) return "Waits for a place";
    const waiting = queue.length > 0 ? ` · ${queue.length} waiting` : "";
    return STATES[stateOf(summary)] + waiting;
}

/** @param {NonNullable<Summary["rateLimit"]>} limit */
function limited({ status, type, utilization, resetsAt }) {
    const which = { five_hour: "five-hour limit", seven_day: "weekly limit" }[type ?? ""] ?? "limit";
    const used = utilization === undefined ? "" : `, ${Math.round(100 * utilization)} % used`;
    // Claude counts in seconds.
    const at = resetsAt === undefined ? null : new Date(resetsAt < 1e11 ? resetsAt * 1000 : resetsAt);
    const renewed = at?.toLocaleString(undefined, { weekday: "short", hour: "numeric", minute: "2-digit" });
    const how = status === "rejected" ? "reached" : `near${used}`;
    return `The account's ${which} is ${how}${renewed ? `; it is renewed ${renewed}` : ""}.`;
}
