// Files for the next prompt: dropped, pasted or picked. Small ones go with the prompt, others are sent ahead.

import { byId, crossButton, h, keep, setText } from "./dom.js";
import { complain, toast } from "./toasts.js";
import { token } from "./token.js";
import { size } from "./conversation/words.js";

/** A message to the server has a limit; this much of it is for files. */
const INLINE_BYTES_MAX = 200_000;

const UNKNOWN = "application/octet-stream";

/** What the server takes. */
const FILES_MAX = 10;
const FILE_BYTES_MAX = 25 << 20;

/**
 * @typedef {{key: string, file: File, state: "ready" | "sending" | "failed", part: number, preview?: string,
 *     sent?: import("./wire.js").Sent, upload?: XMLHttpRequest}} Attachment
 */

export class Attachments {
    /** By session: files stay with the draft they belong to. @type {Map<string, Attachment[]>} */
    #all = new Map();
    #count = 0;
    #app;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        const input = /** @type {HTMLInputElement} */ (byId("files"));
        byId("attach").addEventListener("click", () => input.click());
        input.addEventListener("change", () => {
            this.add([...(input.files ?? [])]);
            input.value = "";
        });
        byId("message").addEventListener("paste", (event) => {
            const files = [...(event.clipboardData?.files ?? [])];
            // What comes from a table or a word processor is a text that has a picture of itself with it.
            if (files.length === 0 || event.clipboardData?.types.includes("text/plain")) return;
            event.preventDefault();
            this.add(files);
        });
        const main = byId("main");
        main.addEventListener("dragover", (event) => {
            if (!event.dataTransfer?.types.includes("Files")) return;
            event.preventDefault();
            main.classList.add("dropping");
        });
        main.addEventListener("dragleave", (event) => {
            if (!main.contains(/** @type {Node | null} */ (event.relatedTarget))) main.classList.remove("dropping");
        });
        main.addEventListener("drop", (event) => {
            main.classList.remove("dropping");
            const files = [...(event.dataTransfer?.files ?? [])];
            if (files.length === 0) return;
            event.preventDefault();
            this.add(files);
        });
        app.conversations.onSwitch.listen(() => this.#draw());
        app.conversations.onReplaced.listen((before, now) => {
            // Those that were sent ahead went with the session that they were sent to.
            const files = this.#all.get(before)?.map(({ file }) => file) ?? [];
            this.#all.delete(before);
            if (files.length > 0) this.add(files, now);
        });
    }

    get #mine() {
        return this.#all.get(this.#app.conversations.current?.id ?? "") ?? [];
    }

    get busy() {
        return this.#mine.some(({ state }) => state === "sending");
    }

    get failed() {
        return this.#mine.some(({ state }) => state === "failed");
    }

    get count() {
        return this.#mine.length;
    }

    /**
     * @param {File[]} files
     * @param {string} [sessionId]
     */
    add(files, sessionId = this.#app.conversations.current?.id) {
        if (!sessionId) return;
        const mine = this.#all.get(sessionId) ?? [];
        for (const file of files) {
            if (mine.length >= FILES_MAX) {
                toast(`At most ${FILES_MAX} files go with a message`, "bad");
                break;
            }
            if (file.size > FILE_BYTES_MAX) {
                toast(`${file.name} is larger than ${size(FILE_BYTES_MAX)}`, "bad");
                continue;
            }
            /** @type {Attachment} */
            const added = { key: String(++this.#count), file, state: "ready", part: 0 };
            if (file.type.startsWith("image/")) added.preview = URL.createObjectURL(file);
            mine.push(added);
            const inline = mine.reduce((sum, { file, upload }) => sum + (upload ? 0 : file.size), 0);
            if (inline > INLINE_BYTES_MAX) this.#send(sessionId, added);
        }
        this.#all.set(sessionId, mine);
        this.#draw();
    }

    /** Those of the shown session, as they go with a prompt. They are here no more then, unless one cannot be read. */
    async take() {
        const sessionId = this.#app.conversations.current?.id ?? "";
        const mine = this.#mine;
        this.#all.delete(sessionId);
        this.#draw();
        try {
            const taken = await Promise.all(mine.map(async ({ file, sent }) =>
                sent ?? { name: nameOf(file), mediaType: file.type || UNKNOWN, data: await bytesOf(file) }));
            for (const { preview } of mine) if (preview) URL.revokeObjectURL(preview);
            return taken;
        } catch (error) {
            this.#all.set(sessionId, [...mine, ...(this.#all.get(sessionId) ?? [])]);
            this.#draw();
            throw error;
        }
    }

    /**
     * @param {string} sessionId
     * @param {Attachment} added
     */
    #send(sessionId, added) {
        const { file } = added;
        const upload = new XMLHttpRequest();
        const failed = (/** @type {string} */ message) => {
            added.state = "failed";
            complain(new Error(`${file.name}: ${message}`));
            this.#draw();
        };
        added.upload = upload;
        added.state = "sending";
        const name = encodeURIComponent(nameOf(file));
        upload.open("POST", new URL(`api/sessions/${sessionId}/files?name=${name}`, document.baseURI));
        upload.setRequestHeader("Authorization", `Bearer ${token()}`);
        if (!file.type) upload.setRequestHeader("Content-Type", UNKNOWN);
        upload.responseType = "json";
        upload.upload.addEventListener("progress", ({ loaded, total }) => {
            added.part = total > 0 ? loaded / total : 0;
            this.#draw();
        });
        upload.addEventListener("error", () => failed("the connection was lost"));
        upload.addEventListener("load", () => {
            const { ok, fileId, error } = upload.response ?? {};
            if (ok !== true) return failed(error?.message ?? `refused (${upload.status})`);
            added.state = "ready";
            added.sent = { fileId };
            this.#draw();
        });
        upload.send(file);
    }

    #draw() {
        const list = byId("attachments");
        keep(list, this.#mine, ({ key }) => key, (added) => this.#make(added), (element, { state, part, file }) => {
            element.dataset.state = state;
            const shown = { ready: size(file.size), sending: `${Math.round(100 * part)} %`, failed: "failed" };
            setText(/** @type {Element} */ (element.querySelector(".size")), shown[state]);
        });
        list.hidden = list.childElementCount === 0;
        this.#app.composer?.filesChanged();
    }

    /** @param {Attachment} added */
    #make(added) {
        const remove = () => {
            added.upload?.abort();
            const id = this.#app.conversations.current?.id ?? "";
            this.#all.set(id, this.#mine.filter((other) => other !== added));
            this.#draw();
            byId("message").focus();
        };
        return h("li", null,
            added.preview && h("img", { src: added.preview, alt: "", width: 28, height: 28 }),
            h("span", { class: "clip" }, nameOf(added.file)), h("span", { class: "size dim small" }),
            crossButton(`Remove ${nameOf(added.file)}`, remove));
    }
}

/** @param {File} file */
async function bytesOf(file) {
    return file.arrayBuffer().catch(() => {
        // A folder, or one that was changed since.
        throw new Error(`${nameOf(file)} cannot be read`);
    });
}

/** @param {File} file */
function nameOf({ name }) {
    return name || "pasted";
}
