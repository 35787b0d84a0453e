// The one socket. Everything asked of the server goes through `request`, everything that it says by itself through
// `onEvent`; what is made of it is not decided here.

import { io } from "./vendor/socket.io.js";
import { Signal } from "./signal.js";

/** An acknowledgement may take this long; a prompt's comes from the disk, some need a process that starts. */
const ACK_MS = 40_000;

/** The first try to come back is after about this; a server that was stopped takes longer to come back. */
const BACK_MS = 200;
const RESTART_MS = 1_500;

/** Away for longer than this, the server is called gone. */
const GONE_MS = 8_000;

/** A refused client tries again after this. */
const RETRY_MS = 3_000;

/** A socket that is silent for so long when the page is looked at again is a dead one. */
const PROBE_MS = 4_000;

/** @typedef {"connecting" | "connected" | "reconnecting" | "gone" | "unauthorized"} State */

/** A refusal, by the server or for want of one (`disconnected`, `timeout`). */
export class WireError extends Error {
    /** @param {{code: string, message: string, [detail: string]: any}} error */
    constructor(error) {
        super(error.message);
        this.code = error.code;
        this.details = error;
    }
}

export class Connection {
    /** @type {State} */
    state = "connecting";
    /** Why, where there is more to say. */
    reason = "";
    /** @type {Signal<[]>} */
    onState = new Signal();
    /** @type {Signal<[name: string, data: any]>} */
    onEvent = new Signal();
    #socket;
    #gone = 0;
    #retry = 0;
    #shutdown = false;

    /** @param {() => object} auth what CONNECT says, asked each time */
    constructor(auth) {
        this.#socket = io(new URL(document.baseURI).origin, {
            path: new URL("socket.io/", document.baseURI).pathname,
            transports: ["websocket", "polling"],
            tryAllTransports: true,
            reconnectionDelay: BACK_MS,
            reconnectionDelayMax: 2_500,
            autoConnect: false,
            auth: (answer) => answer(auth()),
        });
        const socket = this.#socket;
        socket.on("connect", () => {
            clearTimeout(this.#gone);
            this.#gone = 0;
            this.#shutdown = false;
            socket.io.reconnectionDelay(BACK_MS);
            this.#become("connected");
        });
        socket.on("disconnect", (why) => {
            if (why === "io client disconnect") return;
            this.#lost();
            // Sent away by the server: the client would stay away by itself.
            if (!socket.active) this.#later();
        });
        socket.on("connect_error", (error) => {
            const code = /** @type {any} */ (error).data?.code;
            if (socket.active) return this.#lost();
            if (code === "unauthorized") return this.#become("unauthorized");
            this.#become("gone", code === "rate_limited" ? "Too many attempts: waiting" : error.message);
            this.#later();
        });
        socket.onAny((name, data) => {
            if (name === "serverShutdown") {
                this.#shutdown = true;
                socket.io.reconnectionDelay(RESTART_MS);
            }
            this.onEvent.tell(name, data);
        });
        document.addEventListener("visibilitychange", () => void this.#probe());
        addEventListener("online", () => void this.#probe());
    }

    get connected() {
        return this.state === "connected";
    }

    /** Without a token there is no use in asking. */
    stayAway() {
        this.#become("unauthorized");
    }

    open() {
        clearTimeout(this.#retry);
        if (this.state === "unauthorized") this.#become("connecting");
        this.#socket.connect();
    }

    /** Comes back as the client that `auth` says now. */
    reopen() {
        this.#socket.disconnect();
        this.#become("connecting");
        this.open();
    }

    /**
     * @param {string} name
     * @param {object} data
     * @param {number} [timeoutMs]
     * @returns {Promise<any>} the acknowledgement
     * @throws {WireError}
     */
    async request(name, data, timeoutMs = ACK_MS) {
        // The client would keep it for later, when it may not be meant any more.
        if (!this.#socket.connected) throw new WireError({ code: "disconnected", message: "not connected" });
        const ack = await this.#socket.timeout(timeoutMs).emitWithAck(name, data).catch((error) => {
            const code = this.#socket.connected && /timed out/.test(String(error)) ? "timeout" : "disconnected";
            const message = code === "timeout" ? "The server did not answer in time" : "not connected";
            throw new WireError({ code, message });
        });
        if (ack?.ok !== true) throw new WireError(ack?.error ?? { code: "internal", message: "no answer" });
        return ack;
    }

    /** @param {State} state */
    #become(state, reason = "") {
        if (state === this.state && reason === this.reason) return;
        this.state = state;
        this.reason = reason;
        this.onState.tell();
    }

    #lost() {
        if (this.#shutdown) return this.#become("gone", "The server was stopped");
        if (this.state === "gone") return;
        this.#become(this.state === "connecting" ? "connecting" : "reconnecting");
        this.#gone ||= setTimeout(() => this.connected || this.#become("gone", "The server does not answer"), GONE_MS);
    }

    #later() {
        clearTimeout(this.#retry);
        this.#retry = setTimeout(() => this.#socket.connect(), RETRY_MS);
    }

    /** A phone that slept may have a socket that died without anybody noticing. */
    async #probe() {
        if (document.hidden || !this.connected) return;
        await this.request("listSessions", { limit: 1 }, PROBE_MS).catch((error) => {
            if (error.code === "timeout") this.#socket.io.engine.close();
        });
    }
}
