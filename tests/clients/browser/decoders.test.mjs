// The decoders, by the vectors that the Python decoders are tested with.
import assert from "node:assert/strict";
import { test } from "node:test";
import { EventDecoder, LineDecoder } from "../../../clients/browser/stream-chat.js";
import { bothWays, vectors } from "./support.mjs";

for (const { bytes, events } of vectors("events")) {
  test(`events by the standard: ${JSON.stringify(String(bytes))}`, () => {
    const found = bothWays(() => new EventDecoder(), bytes);
    assert.deepEqual(found, { found: events.map(([type, data, id]) => ({ type, data, id })), error: "" });
    const more = new EventDecoder().feed(Buffer.concat([bytes, Buffer.from(": more")]));
    assert.deepEqual(more, found.found);
  });
}

for (const { bytes, retry_ms } of vectors("retry")) {
  test(`retry takes digits only: ${String(bytes).slice(0, 20).trim()}`, () => {
    const decoder = new EventDecoder();
    decoder.feed(bytes);
    assert.equal(decoder.retryMs ?? null, retry_ms);
  });
}

for (const { bytes, id } of vectors("last_event_id")) {
  test(`the last event id: ${JSON.stringify(String(bytes))}`, () => {
    const decoder = new EventDecoder();
    decoder.feed(bytes);
    assert.equal(decoder.lastEventId, id);
  });
}

for (const [section, make] of [
  ["event_limit", () => new EventDecoder(64)],
  ["line_limit", () => new LineDecoder(64)],
]) {
  for (const { bytes, too_large } of vectors(section)) {
    test(`${section}: ${JSON.stringify(String(bytes).slice(0, 20))} and ${bytes.length} bytes in all`, () => {
      assert.equal(bothWays(make, bytes).error.includes("more than 64"), too_large);
    });
  }
}

for (const { bytes, messages } of vectors("lines")) {
  test(`only LF ends a line: ${JSON.stringify(String(bytes)).slice(0, 60)}`, () => {
    const { found, error } = bothWays(() => new LineDecoder(), bytes);
    assert.deepEqual([found.map((line) => JSON.parse(line)), error], [messages, ""]);
  });
}

test("a token of a megabyte, byte by byte", () => {
  const text = "x".repeat(2 ** 20);
  const { found } = bothWays(() => new EventDecoder(), Buffer.from(`data: ${text}\n\n`));
  assert.equal(found[0].data, text);
});
