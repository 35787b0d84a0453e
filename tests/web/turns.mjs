// Turns as Claude Code prints them, for the stand-in agent to repeat: `turn FILE` is its prompt for that.

import { writeFileSync } from "node:fs";
import { join } from "node:path";

let count = 0;

/**
 * Writes a turn's lines into a file and gives the prompt that has the agent print them. A step is `{text}`, `{thinking}`,
 * `{tool: {name, input}, result}` (a `result` that is no string is a list of content blocks; with `failed` an error), or
 * `{line}`: as it is.
 */
export function turn(server, steps, options = {}) {
  const name = `turn-${++count}`;
  const lines = [...said(steps, name, options), result("$UUID")];
  const file = join(server.root, name);
  writeFileSync(file, lines.map((line) => `${typeof line === "string" ? line : JSON.stringify(line)}\n`).join(""));
  return `turn ${file}`;
}

/** What is printed of these steps, between the prompt and its result. */
export function said(steps, name, { chunk = 20, streamed = true, cwd = "/" } = {}) {
  const lines = [{ type: "system", subtype: "init", cwd, model: "claude-x", tools: [] }];
  for (const [index, step] of steps.entries()) {
    if (step.line) lines.push(step.line);
    else lines.push(...message(step, `msg_${name}_${index}`, streamed ? chunk : 0));
  }
  return lines;
}

/** The result of the prompt that has this uuid. */
export function result(uuid) {
  return {
    type: "result", subtype: "success", is_error: false, num_turns: 1, duration_ms: 1200, result: "",
    total_cost_usd: 0.0123, usage: { input_tokens: 10, output_tokens: 20 }, user_message_uuids: [uuid],
  };
}

/** One message of the model with one block, streamed in pieces, and what its tool gave. */
function message(step, id, chunk) {
  const tool_use_id = `toolu_${id}`;
  const parent_tool_use_id = step.parent ?? null;
  const block = step.tool
    ? { type: "tool_use", id: tool_use_id, name: step.tool.name, input: step.tool.input }
    : step.thinking !== undefined
      ? { type: "thinking", thinking: step.thinking, signature: "" }
      : { type: "text", text: step.text };
  const whole = { id, type: "message", role: "assistant", model: "claude-x", content: [block] };
  const lines = parent_tool_use_id === null && chunk > 0 ? deltas(whole, block, chunk) : [];
  lines.push({ type: "assistant", message: whole, parent_tool_use_id });
  if (step.tool && step.result !== undefined) {
    const result = { type: "tool_result", tool_use_id, content: step.result, is_error: step.failed === true };
    lines.push({ type: "user", message: { role: "user", content: [result] }, parent_tool_use_id });
  }
  return lines;
}

function deltas(whole, block, chunk) {
  const [empty, full, wrap] = {
    text: () => [{ type: "text", text: "" }, block.text, (text) => ({ type: "text_delta", text })],
    thinking: () => [{ ...block, thinking: "" }, block.thinking, (thinking) => ({ type: "thinking_delta", thinking })],
    tool_use: () => [{ ...block, input: {} }, JSON.stringify(block.input), (partial_json) => ({ type: "input_json_delta", partial_json })],
  }[block.type]();
  const events = [
    { type: "message_start", message: { ...whole, content: [] } },
    { type: "content_block_start", index: 0, content_block: empty },
  ];
  for (let at = 0; at < full.length; at += chunk) {
    events.push({ type: "content_block_delta", index: 0, delta: wrap(full.slice(at, at + chunk)) });
  }
  events.push({ type: "content_block_stop", index: 0 }, { type: "message_stop" });
  return events.map((event) => ({ type: "stream_event", event, parent_tool_use_id: null }));
}

/** How an answer's id for a tool is made, for sub-agents' lines: `parent`. */
export function toolId(index) {
  return `toolu_msg_turn-${count + 1}_${index}`;
}
