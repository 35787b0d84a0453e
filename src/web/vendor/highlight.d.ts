/** As much of highlight.js as the page uses; its browser build comes without types. */
declare const hljs: {
    getLanguage(name: string): unknown;
    highlight(code: string, options: { language: string; ignoreIllegals?: boolean }): { value: string };
    highlightAuto(code: string, languages?: string[]): { value: string; language?: string };
};
export default hljs;
