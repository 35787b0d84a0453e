// Model, permission mode and effort of the session that is shown: chosen here, and shown as Claude has them.

import { byId, h, keep, setText } from "./dom.js";
import { complain } from "./toasts.js";
import { MODES } from "./words.js";

const EFFORTS = ["low", "medium", "high", "max"];

export class Pickers {
    #app;

    /** @param {import("./main.js").App} app */
    constructor(app) {
        this.#app = app;
        this.#watch("model", "setModel", "model");
        this.#watch("permission-mode", "setPermissionMode", "permissionMode");
        this.#watch("effort", "setEffort", "effort");
        const tune = byId("tune");
        tune.addEventListener("click", () => {
            const open = byId("pickers").classList.toggle("open");
            tune.setAttribute("aria-expanded", String(open));
        });
        app.conversations.onSwitch.listen(() => this.#draw());
        app.conversations.onChange.listen((conversation) => {
            if (conversation === app.conversations.current) this.#draw();
        });
    }

    /**
     * @param {string} id
     * @param {string} event
     * @param {string} field
     */
    #watch(id, event, field) {
        const select = /** @type {HTMLSelectElement} */ (byId(id));
        select.addEventListener("change", async () => {
            const sessionId = this.#app.conversations.current?.id;
            if (!sessionId || !select.value) return this.#draw();
            select.disabled = true;
            await this.#app.connection.request(event, { sessionId, [field]: select.value }).catch(complain);
            select.disabled = false;
            this.#draw();
        });
    }

    #draw() {
        const { summary, models } = this.#app.conversations.current ?? {};
        if (!summary) return;
        const known = models ?? [];
        const model = known.find(({ value, displayName }) => value === summary.model || displayName === summary.model);
        const names = known.map(({ value, displayName }) => [value, displayName ?? value]);
        const efforts = (model?.supportedEffortLevels ?? EFFORTS).map((level) => [level, `Effort ${level}`]);
        fill("model", names, model?.value ?? summary.model, "Default model");
        fill("permission-mode", Object.entries(MODES), summary.permissionMode, "Default permissions");
        fill("effort", efforts, summary.effort, "Default effort");
    }
}

/**
 * @param {string} id
 * @param {string[][]} options value and label
 * @param {string | null} value
 * @param {string} otherwise what is said where nothing is chosen
 */
function fill(id, options, value, otherwise) {
    const select = /** @type {HTMLSelectElement} */ (byId(id));
    const all = [...options];
    if (value === null) all.unshift(["", otherwise]);
    else if (!options.some(([known]) => known === value)) all.unshift([value, value]);
    keep(select, all, ([value = ""]) => `=${value}`, ([value]) => h("option", { value }),
        (option, [, label = ""]) => setText(option, label));
    if (!select.disabled && document.activeElement !== select) select.value = value ?? "";
    else if (select.selectedIndex < 0) select.value = value ?? "";
}
