// Colours code with highlight.js: its core and each language are loaded when there is code in it.

/** @typedef {import("../vendor/highlight.js").Grammar} Grammar */

/** Two blocks of the same language load it once. @type {Map<string, Promise<void>>} */
const loaded = new Map();

/**
 * The code as HTML of nothing but coloured pieces; `null` where its language is not known.
 * @param {string} code
 * @param {string} language
 */
export async function highlighted(code, language) {
    const [{ default: hljs }, { default: languages }] = await Promise.all([
        import("../vendor/highlight.js"),
        import("../vendor/languages.js"),
    ]);
    const name = languages.get(language.toLowerCase());
    if (!name) return null;
    const load = async () => {
        /** @type {{default: Grammar}} */
        const { default: grammar } = await import(`../vendor/languages/${name}.js`);
        hljs.registerLanguage(name, grammar);
    };
    if (!loaded.has(name)) {
        loaded.set(name, load().catch((error) => {
            // The server was away: the next one may try again.
            loaded.delete(name);
            throw error;
        }));
    }
    await loaded.get(name);
    return hljs.highlight(code, { language: name, ignoreIllegals: true }).value;
}
