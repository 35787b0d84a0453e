// A new session: where, with which model, in which mode.

import { ask } from "./dialogs.js";
import { button, h, keep, setText } from "./dom.js";
import { kept } from "./storage.js";
import { complain } from "./toasts.js";
import { lastPart, modesOf } from "./words.js";

/** @param {import("./main.js").App} app */
export async function newSession(app) {
    const picker = new DirectoryPicker(app);
    await picker.go(kept.get("directory") ?? app.conversations.current?.summary?.cwd);
    const { models, permissionModes } = app.conversations.current ?? {};
    const model = h("select", { "aria-label": "Model" }, h("option", { value: "" }, "Default model"),
        models?.map(({ value, displayName }) => value !== "default" && h("option", { value }, displayName ?? value)));
    const mode = h("select", { "aria-label": "Permission mode" }, h("option", { value: "" }, "Default permissions"),
        modesOf(permissionModes).map(([value, label]) => h("option", { value }, label)));
    const create = async () => {
        const wanted = {
            ...(picker.path && { cwd: picker.path }),
            ...(model.value && { model: model.value }),
            ...(mode.value && { permissionMode: mode.value }),
        };
        const answer = await app.connection.request("createSession", wanted).catch(complain);
        if (!answer) return false;
        kept.set("directory", picker.path);
        app.open(answer.session.sessionId);
        return true;
    };
    const answer = await ask({
        title: "New session",
        body: [picker.element, h("div", { class: "row wrap" }, model, mode)],
        actions: [{ label: "Start", value: "start", primary: true }],
        check: create,
    });
    if (answer !== null && matchMedia("(pointer: fine)").matches) app.composer.focus();
}

/** Goes through the directories in which sessions may work. */
class DirectoryPicker {
    path = "";
    #app;
    #where = h("p", { class: "mono clip", role: "status" });
    #list = h("ul", { role: "list", "aria-label": "Directories", class: "directories" });

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        this.element = h("div", { class: "picker" }, this.#where, this.#list);
    }

    /** @param {string} [path] */
    async go(path) {
        const { connection } = this.#app;
        const found = await connection.request("listDirectories", path ? { path } : {})
            // One that is gone since, or not allowed any more.
            .catch((error) => (path ? connection.request("listDirectories", {}) : Promise.reject(error)))
            .catch(complain);
        if (!found) return;
        this.path = found.path;
        setText(this.#where, found.path);
        this.#where.title = found.path;
        /** @type {{path: string, label: string, hidden?: boolean}[]} */
        const entries = [];
        if (found.parent !== null) entries.push({ path: found.parent, label: ".." });
        for (const root of found.roots) {
            if (root !== found.path && root !== found.parent && !found.path.startsWith(`${root}/`)) {
                entries.push({ path: root, label: root });
            }
        }
        for (const { path, name, hidden } of found.directories) entries.push({ path, label: name, hidden });
        const inList = this.#list.contains(document.activeElement);
        keep(this.#list, entries, ({ label, path }) => `${label} ${path}`, ({ label, path, hidden }) => {
            const up = label === "..";
            return h("li", null, button(up ? "↑ .." : label, () => void this.go(path), {
                class: hidden ? "quiet dim" : "quiet",
                "aria-label": up ? `Up to ${lastPart(path)}` : label,
            }));
        });
        if (entries.length === 0) this.#list.append(h("li", { class: "dim small" }, "No directories in here."));
        if (inList) this.#list.querySelector("button")?.focus();
        this.#list.scrollTop = 0;
    }
}
