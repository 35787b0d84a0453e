/** Which of `languages/` a language's name means: made by the build of what the grammars say. */
declare const languages: Map<string, string>;
export default languages;
