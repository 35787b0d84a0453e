#!/usr/bin/env node
// A stand-in for `claude` with a story to tell: what the screenshots show. Any prompt gets the next part of it.

import { createInterface } from "node:readline";
import { result, said } from "./turns.mjs";

const FIX = {
  file_path: "src/parser.rs",
  old_string: "fn parse_port(text: &str) -> u16 {\n    text.parse().unwrap()\n}",
  new_string: "fn parse_port(text: &str) -> Result<u16, ParseIntError> {\n    text.trim().parse()\n}",
};

const STORY = [
  [
    { text: "I'll look at the failing test first." },
    { tool: { name: "Bash", input: { command: "cargo test parser", description: "Runs the parser's tests" } },
      result: "running 3 tests\ntest parser::empty ... ok\ntest parser::numbers ... FAILED\ntest parser::names ... ok\n" },
    { thinking: "The input has a newline at its end; parse() does not take that." },
    { text: "`parse_port` panics on input with a newline at its end. It should say what is wrong instead:" },
    { tool: { name: "Edit", input: FIX }, result: "The file src/parser.rs has been updated." },
    { text: `The function returns an error now, and takes white space around the number:

| input | before | now |
|---|---|---|
| \`"8080\\n"\` | panic | \`Ok(8080)\` |
| \`"eighty"\` | panic | \`Err(…)\` |

Callers pass the error on with \`?\`:

\`\`\`rust
let port = parse_port(&line).map_err(ConfigError::Port)?;
\`\`\`
` },
  ],
  [{ text: "Now everything together, and the linter." }],
];

const ASKED = {
  subtype: "can_use_tool", tool_name: "Bash", tool_use_id: "toolu_asked",
  input: { command: "cargo test && cargo clippy -- -D warnings", description: "Runs all tests and the linter" },
  permission_suggestions: [
    { type: "addRules", rules: [{ toolName: "Bash", ruleContent: "cargo test:*" }], behavior: "allow", destination: "localSettings" },
  ],
};

const REPLIES = {
  initialize: {
    commands: [], agents: [], models: [{ value: "default", displayName: "Default", description: "" }],
    claude_code_version: "2.1.330",
  },
  get_settings: { applied: {}, effective: {}, sources: [] },
};

const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

if (process.argv.includes("--version")) {
  console.log("2.1.330 (Claude Code)");
  process.exit();
}

let part = 0;
createInterface(process.stdin).on("line", (text) => {
  const line = JSON.parse(text);
  if (line.type === "control_request") {
    const response = REPLIES[line.request.subtype] ?? {};
    say({ type: "control_response", response: { subtype: "success", request_id: line.request_id, response } });
  } else if (line.type === "user") {
    for (const printed of said(STORY[part] ?? [], `part_${part}`, { cwd: process.cwd() })) say(printed);
    // The last part ends with a question that stays open.
    if (++part === STORY.length) say({ type: "control_request", request_id: "asked", request: ASKED });
    else say(result(line.uuid));
  }
});
