/** As much of highlight.js as the page uses; its browser build comes without types. */
export type Grammar = (hljs: unknown) => object;
declare const hljs: {
    getLanguage(name: string): unknown;
    registerLanguage(name: string, grammar: Grammar): void;
    highlight(code: string, options: { language: string; ignoreIllegals?: boolean }): { value: string };
};
export default hljs;
