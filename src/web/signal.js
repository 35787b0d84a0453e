/**
 * Something that others may want to hear of.
 * @template {any[]} Args
 */
export class Signal {
    /** @type {((...args: Args) => void)[]} */
    #listeners = [];

    /** @param {(...args: Args) => void} listener */
    listen(listener) {
        this.#listeners.push(listener);
    }

    /** @param {Args} args */
    tell(...args) {
        for (const listener of this.#listeners) listener(...args);
    }
}
