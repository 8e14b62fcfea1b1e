// What the tests of the browser's module share: vectors, answers as bytes, and a server that does what a test wants.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";

const FILE = new URL("../../vectors/decoders.json", import.meta.url);
const VECTORS = JSON.parse(readFileSync(FILE, "utf8"));

/** The vectors of a section, each with its bytes. */
export function vectors(section) {
  return VECTORS[section].vectors.map((vector) => ({ ...vector, bytes: bytesOf(vector) }));
}

function bytesOf({ text = "", hex, times = 1 }) {
  return hex ? Buffer.from(hex, "hex") : Buffer.from(text.repeat(times));
}

/** What `make()`'s decoder finds in `bytes`, which must be the same whole and byte by byte; or what it throws. */
export function bothWays(make, bytes) {
  const whole = feed(make(), [bytes]);
  const split = feed(make(), Array.from(bytes, (byte) => Uint8Array.of(byte)));
  if (JSON.stringify(whole) !== JSON.stringify(split)) {
    throw new Error(`whole: ${JSON.stringify(whole)}, byte by byte: ${JSON.stringify(split)}`);
  }
  return whole;
}

function feed(decoder, parts) {
  try {
    return { found: parts.flatMap((part) => decoder.feed(part)), error: "" };
  } catch (error) {
    return { found: [], error: error.message };
  }
}

/** The messages of an answer: tokens, then the end. */
export function messagesOf(texts) {
  const tokens = texts.map((t, i) => ({ i, t, due: 1000, sent: 1500 }));
  return [...tokens, { done: true, n: texts.length, sha256: createHash("sha256").update(texts.join("")).digest("hex") }];
}

/** Messages as SSE events, from index `from` on. */
export function events(texts, from = 0) {
  const event = (message) =>
    message.done
      ? `event: end\ndata: ${JSON.stringify(message)}\n\ndata: [DONE]\n\n`
      : `id: s1/${message.i}\ndata: ${JSON.stringify(message)}\n\n`;
  return messagesOf(texts).slice(from).map(event);
}

/** Messages as JSON lines, from index `from` on. */
export function lines(texts, from = 0) {
  return messagesOf(texts).slice(from).map((message) => `${JSON.stringify(message)}\n`);
}

export const SSE = { "Content-Type": "text/event-stream" };
export const NDJSON = { "Content-Type": "application/x-ndjson" };
export const JSON_TYPE = { "Content-Type": "application/json" };

/**
 * A server whose request k is answered by `handlers[k]`, or the last of them: (request, response, body) => void.
 * Closed when the test `t` is over; `asked` are the requests that it had, with their bodies.
 */
export async function serving(t, ...handlers) {
  const asked = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const data of request) body += data;
    const handler = handlers[Math.min(asked.length, handlers.length - 1)];
    asked.push({ ...request, method: request.method, url: request.url, headers: request.headers, body });
    await handler(request, response, body && JSON.parse(body));
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${server.address().port}/chat`, asked, server };
}

/** A handler that sends parts of a stream and then does as `how` says: "end", "fin", "rst", or "hold". */
export function sending(headers, parts, how = "end") {
  return async (_, response) => {
    response.writeHead(200, headers);
    for (const part of parts) {
      response.write(part);
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    if (how === "end") response.end();
    if (how === "fin") response.socket.end();
    if (how === "rst") response.socket.resetAndDestroy();
  };
}

/** A handler that refuses. */
export function refusing(status, headers = {}, body = "") {
  return (_, response) => response.writeHead(status, headers).end(body);
}

/** The tokens' texts, and the answer's report. */
export async function reading(answer) {
  const texts = [];
  for await (const { t } of answer) texts.push(t);
  return texts;
}
