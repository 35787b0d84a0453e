// Model, permission mode and effort of the session that is shown: chosen here, and shown as Claude has them.

import { byId, h, keep, setText } from "./dom.js";
import { complain } from "./toasts.js";
import { modesOf } from "./words.js";

/** Who chooses with the keyboard is at rest after this. */
const CHOOSING_MS = 250;

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
        let timer = 0;
        /** For the session that was shown then, whichever is shown when the keys are at rest. */
        let wanted = { sessionId: "", [field]: "" };
        const choose = async () => {
            clearTimeout(timer);
            timer = 0;
            if (!wanted.sessionId || !wanted[field]) return this.#draw(id);
            const done = await this.#app.connection.request(event, wanted).catch(complain);
            this.#draw(done ? "" : id);
        };
        // Arrow keys go through all that lies between.
        select.addEventListener("change", () => {
            clearTimeout(timer);
            wanted = { sessionId: this.#app.conversations.current?.id ?? "", [field]: select.value };
            timer = setTimeout(choose, CHOOSING_MS);
        });
        select.addEventListener("blur", () => (timer ? void choose() : this.#draw()));
    }

    /** @param {string} [refused] the one that does not stay as it was chosen */
    #draw(refused) {
        const { summary, models, permissionModes } = this.#app.conversations.current ?? {};
        if (!summary) return;
        const known = models ?? [];
        const model = known.find(({ value, displayName }) => value === summary.model || displayName === summary.model);
        const names = known.map(({ value, displayName }) => [value, displayName ?? value]);
        const efforts = (model?.supportedEffortLevels ?? EFFORTS).map((level) => [level, `Effort ${level}`]);
        fill("model", names, model?.value ?? summary.model, "Default model", refused);
        fill("permission-mode", modesOf(permissionModes), summary.permissionMode, "Default permissions", refused);
        fill("effort", efforts, summary.effort, "Default effort", refused);
    }
}

/**
 * @param {string} id
 * @param {string[][]} options value and label
 * @param {string | null} value
 * @param {string} otherwise what is said where nothing is chosen
 * @param {string} [refused]
 */
function fill(id, options, value, otherwise, refused) {
    const select = /** @type {HTMLSelectElement} */ (byId(id));
    const all = [...options];
    if (value === null) all.unshift(["", otherwise]);
    else if (!options.some(([known]) => known === value)) all.unshift([value, value]);
    keep(select, all, ([value = ""]) => `=${value}`, ([value]) => h("option", { value }),
        (option, [, label = ""]) => setText(option, label));
    // Who is about to choose is left alone.
    const left = document.activeElement === select && id !== refused && select.selectedIndex >= 0;
    if (!left) select.value = value ?? "";
}
