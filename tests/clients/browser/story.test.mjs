// The loop that the story ended with, and that people copy: three ways in which it is wrong, and the module beside it.
import assert from "node:assert/strict";
import { test } from "node:test";
import { streamChat } from "../../../clients/browser/stream-chat.js";
import { events, reading, sending, serving, SSE } from "./support.mjs";

/** fetch and a ReadableStream, as the story has it: its server sends `data: <text of the token>`. */
async function storyLoop(url) {
  const response = await fetch(url, { method: "POST", body: JSON.stringify({ message: "x" }) });
  const reader = response.body.getReader();
  const decoder = new TextDecoder();
  const tokens = [];
  let buffer = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return tokens;
    buffer += decoder.decode(value, { stream: true });
    const events = buffer.split("\n\n");
    buffer = events.pop();
    for (const event of events) {
      const token = event.replace("data: ", "").trim();
      if (token === "[DONE]") return tokens;
      tokens.push(token);
    }
  }
}

/** What the story's loop and the module make of the same tokens, each from a server that speaks its language. */
async function both(t, texts, lineEnd = "\n") {
  const as = (parts) => parts.map((part) => part.replaceAll("\n", lineEnd));
  const raw = as([...texts, "[DONE]"].map((text) => `data: ${text}\n\n`));
  const story = await serving(t, sending(SSE, raw));
  const module = await serving(t, sending(SSE, as(events(texts))));
  return [await storyLoop(story.url), await reading(streamChat({ url: module.url, message: "x" }))];
}

test("the story's loop reads plain words", async (t) => {
  assert.deepEqual(await both(t, ["one", "two"]), [["one", "two"], ["one", "two"]]);
});

test("it trims tokens: words grow together", async (t) => {
  const texts = ["Hello", " the", " world"];
  const [story, module] = await both(t, texts);
  assert.equal(story.join(""), "Hellotheworld");
  assert.deepEqual(module, texts);
});

test("it breaks on CRLF, which the standard allows: nothing is shown", async (t) => {
  const texts = ["one", "two"];
  const [story, module] = await both(t, texts, "\r\n");
  assert.deepEqual(story, []);
  assert.deepEqual(module, texts);
});

test("it takes a token [DONE] for the end", async (t) => {
  const texts = ["The stream ends with ", "[DONE]", ", says the manual."];
  const [story, module] = await both(t, texts);
  assert.deepEqual(story, ["The stream ends with"]);
  assert.deepEqual(module, texts);
});
