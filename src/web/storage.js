// What the browser keeps, where it keeps anything: a private window may refuse.

/** One origin may have several servers, each under a path of its own. */
const PREFIX = `csm ${new URL(".", document.baseURI).pathname} `;

/** @param {() => Storage} find throws where there is none */
function keeper(find) {
    /** @type {Map<string, string>} */
    const memory = new Map();
    /**
     * @template T
     * @param {(storage: Storage) => T} use
     * @param {T} otherwise
     */
    const tried = (use, otherwise) => {
        try {
            return use(find());
        } catch {
            return otherwise;
        }
    };
    return {
        /** @param {string} name */
        get: (name) => memory.get(name) ?? tried((storage) => storage.getItem(PREFIX + name), null),
        /**
         * @param {string} name
         * @param {string | null} value
         */
        set(name, value) {
            memory.delete(name);
            const stored = tried((storage) => {
                if (value === null) storage.removeItem(PREFIX + name);
                else storage.setItem(PREFIX + name, value);
                return true;
            }, false);
            if (!stored && value !== null) memory.set(name, value);
        },
        names: () => {
            const stored = tried((storage) => Object.keys(storage), /** @type {string[]} */ ([]));
            const own = stored.filter((name) => name.startsWith(PREFIX)).map((name) => name.slice(PREFIX.length));
            return [...new Set([...own, ...memory.keys()])];
        },
    };
}

/**
 * Tells what other tabs take out of what is kept for good.
 * @param {(name: string) => void} removed
 */
export function onRemovedElsewhere(removed) {
    addEventListener("storage", ({ key, newValue }) => {
        if (key?.startsWith(PREFIX) && newValue === null) removed(key.slice(PREFIX.length));
    });
}

/** For good. */
export const kept = keeper(() => localStorage);

/** As long as this tab. */
export const keptInTab = keeper(() => sessionStorage);
