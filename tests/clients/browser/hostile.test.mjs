// Servers that misbehave, and callers who come and go: every answer ends, exact or with a StreamChatError that says why.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createRequire } from "node:module";
import { describe, test } from "node:test";
import { StreamChatError, streamChat } from "../../../clients/browser/stream-chat.js";
import { wholeAnswer } from "../../../clients/browser/whole-answer.js";
import {
  events, JSON_TYPE, lines, messagesOf, NDJSON, reading, refusing, sending, serving, SSE,
} from "./support.mjs"; // prettier-ignore

const TEXTS = ["Hello", " the", "", "\n\n", "[DONE]", "é"];
const QUICK = { message: "x", backoffMs: 1 };
const rest = (_, response, { from }) => sending(SSE, events(TEXTS, from))(_, response);
const causesOf = (answer) => answer.report.attempts.map(({ cause }) => cause);
const after = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** A page of polling: tokens `from` to `to`, and the end if all are in it. */
const page = (from, to) => (_, response) => {
  const { n, sha256 } = messagesOf(TEXTS).at(-1);
  const end = to === n ? { done: true, n, sha256 } : { done: false };
  response.writeHead(200, JSON_TYPE).end(JSON.stringify({ tokens: messagesOf(TEXTS).slice(from, to), next: to, ...end }));
};
const accepted = (poll) => (_, response) => response.writeHead(202, JSON_TYPE).end(JSON.stringify({ poll }));

describe("the path to poll", { concurrency: true }, () => {
  for (const [chat, poll, polled] of [
    ["/base/chat", "/chat/s1", "/base/chat/s1"], // the server is not told of its base path
    ["/base/chat", "/base/chat/s1", "/base/chat/s1"],
    ["/a/b/chat", "/b/chat/s1", "/a/b/chat/s1"],
    ["/chat", "/chat/s1", "/chat/s1"],
    ["/api/ask", "/polls/s1", "/polls/s1"], // not below the chat's: the server's own choice
    ["/api/chat", "/s1", "/s1"],
    ["/api/chat", "s1", "/api/s1"],
  ]) {
    test(`${poll} of ${chat} is ${polled}`, async (t) => {
      const { url, asked } = await serving(t, accepted(poll), page(0, 6));
      const answer = streamChat({ ...QUICK, url: new URL(chat, url), transport: "polling" });
      assert.deepEqual(await reading(answer), TEXTS);
      assert.equal(asked[1].url, `${polled}?from=0`);
    });
  }

  for (const poll of ["http://[", "//127.0.0.2:9/chat/s1", "javascript:1", "", null, 7e999, undefined]) {
    test(`${poll} is none`, async (t) => {
      const { url } = await serving(t, accepted(poll));
      const answer = streamChat({ ...QUICK, url, transport: "polling", attempts: 1 });
      await assert.rejects(reading(answer), { reason: "format", message: "no path to poll" });
    });
  }
});

describe("servers", { concurrency: true }, () => {
  for (const transport of ["sse", "chunked", "polling"]) {
    test(`${transport}: 204 says "do not come back"`, async (t) => {
      const { url, asked } = await serving(t, refusing(204, SSE));
      await assert.rejects(reading(streamChat({ ...QUICK, url, transport })), { reason: "status 204", status: 204 });
      assert.equal(asked.length, 1);
    });
  }

  for (const [transport, headers, failing] of [
    ["sse", SSE, (body) => `event: error\ndata: ${body}\n\n`],
    ["chunked", NDJSON, (body) => `${body}\n`],
  ]) {
    test(`${transport}: an error in the place of the end is told, and tried again if it may pass`, async (t) => {
      const error = (code) => failing(JSON.stringify({ error: { code, message: "the source failed: Boom" } }));
      const { url } = await serving(t, sending(headers, [error("source_busy")]), sending(headers, [error("no_model")]));
      const answer = streamChat({ ...QUICK, url, transport });
      await assert.rejects(reading(answer), { reason: "error no_model", message: "the source failed: Boom" });
      assert.deepEqual(causesOf(answer), ["error source_busy", "error no_model"]);
    });
  }

  for (const [error, reason, message] of [
    ["boom", "error unknown", "boom"],
    [{ message: "m", type: "server_error", code: null }, "error server_error", "m"], // as OpenAI's
    [{ message: "m" }, "error unknown", "m"],
    [{ code: "no_model" }, "error no_model", "error no_model"],
  ]) {
    test(`an error of somebody else's server is told: ${JSON.stringify(error)}`, async (t) => {
      const { url } = await serving(t, sending(SSE, [`event: error\ndata: ${JSON.stringify({ error })}\n\n`]));
      await assert.rejects(reading(streamChat({ ...QUICK, url })), { reason, message });
    });
  }

  for (const [body, message] of [
    ['{"error": "no key"}', "no key"],
    ['{"error": {"message": "no key"}}', "no key"],
    ['{"detail": "Not authenticated"}', "Not authenticated"], // FastAPI's
    ['{"detail": [{"msg": "Field required"}]}', "status 401"],
    ["<h1>Log in</h1>", "status 401"],
    ["null", "status 401"],
  ]) {
    test(`a refusal is told as the server words it: ${body}`, async (t) => {
      const { url } = await serving(t, refusing(401, JSON_TYPE, body));
      await assert.rejects(reading(streamChat({ ...QUICK, url })), { reason: "status 401", status: 401, message });
    });
  }

  test("a type is the same in capitals", async (t) => {
    const { url } = await serving(t, sending({ "Content-Type": "Text/Event-Stream; Charset=UTF-8" }, events(TEXTS)));
    assert.deepEqual(await reading(streamChat({ ...QUICK, url })), TEXTS);
  });

  test("an id that no header can carry: `from` says it", async (t) => {
    const strange = [...events(TEXTS).slice(0, 2).map((event) => event.replace("s1/", "中é/"))];
    const { url, asked } = await serving(t, sending(SSE, strange, "rst"), rest);
    assert.deepEqual(await reading(streamChat({ ...QUICK, url })), TEXTS);
    assert.equal(asked[1].headers["last-event-id"], undefined);
  });

  test("a gap is fetched from a server that goes by Last-Event-ID alone", async (t) => {
    const byId = ({ headers }, response, { from = 0 }) => {
      const first = headers["last-event-id"] ? Number(headers["last-event-id"].split("/")[1]) + 1 : from;
      return sending(SSE, events(TEXTS, first))({}, response);
    };
    const { url } = await serving(t, sending(SSE, [events(TEXTS)[0] + events(TEXTS)[2]], "hold"), byId);
    const answer = streamChat({ ...QUICK, url });
    assert.deepEqual(await reading(answer), TEXTS);
    assert.deepEqual(causesOf(answer), ["gap", ""]);
  });

  test("a token that is repeated for ever is no progress", async (t) => {
    const repeating = (_, response) => {
      response.writeHead(200, SSE);
      const timer = setInterval(() => response.write(events(TEXTS)[0]), 30);
      response.on("close", () => clearInterval(timer));
    };
    const { url } = await serving(t, repeating, rest);
    const answer = streamChat({ ...QUICK, url, tokenSilenceMs: 500 });
    assert.deepEqual(await reading(answer), TEXTS);
    assert.deepEqual([...new Set(causesOf(answer))], ["token silence", ""]);
  });

  test("a long poll that is answered at once, always with the same, is not asked in a busy loop", async (t) => {
    const { url, asked } = await serving(t, accepted("/chat/s1"), page(0, 2));
    const answer = streamChat({ ...QUICK, url, transport: "polling", pollWaitS: 20, pollMs: 200, signal: AbortSignal.timeout(900) });
    await assert.rejects(reading(answer), { name: "TimeoutError" });
    assert.ok(asked.length <= 8, `${asked.length} requests`);
  });

  test("empty tokens are not free: an answer of them is too long at some time", async (t) => {
    const long = "x".repeat(4 * 2 ** 20 - 64); // 16 of them leave little of the 64 MiB
    const texts = [...Array(16).fill(long), ...Array(200).fill("")];
    const { url } = await serving(t, sending(NDJSON, lines(texts)));
    await assert.rejects(reading(streamChat({ ...QUICK, url, transport: "chunked" })), { reason: "format", message: "too long" });
  });

  test("a line without an end is too long at some time", async (t) => {
    const { url } = await serving(t, sending(SSE, Array(6).fill("data: ".padEnd(2 ** 20, "x")), "hold"));
    await assert.rejects(reading(streamChat({ ...QUICK, url, attempts: 1 })), { reason: "format", message: /more than/ });
  });

  test("a refusal whose text never ends is a refusal", async (t) => {
    const trickling = (_, response) => {
      response.writeHead(503, JSON_TYPE);
      const timer = setInterval(() => response.write(" "), 50);
      response.on("close", () => clearInterval(timer));
    };
    const { url } = await serving(t, trickling, rest);
    const answer = streamChat({ ...QUICK, url });
    assert.deepEqual(await reading(answer), TEXTS);
    assert.deepEqual(causesOf(answer), ["status 503", ""]);
  });

  test("Retry-After as a date counts from the server's own Date", async (t) => {
    const wrongBy = 3_600_000;
    const [date, later] = [0, 1000].map((ms) => new Date(Date.now() - wrongBy + ms).toUTCString());
    const { url } = await serving(t, refusing(429, { "Retry-After": later, Date: date }), rest);
    const answer = streamChat({ ...QUICK, url });
    assert.deepEqual(await reading(answer), TEXTS);
    assert.equal(Math.round(answer.report.attempts[0].waitMs), 1000);
  });

  test("words in `retry:` and Retry-After that are no time are none", async (t) => {
    const odd = ["retry: -5\n", "retry: 1e9\n", "retry: 3000.5\n", "retry:\n", "retry: 5000 \n", events(TEXTS)[0]];
    const { url } = await serving(t, sending(SSE, odd, "rst"), refusing(503, { "Retry-After": "soon" }), rest);
    const answer = streamChat({ ...QUICK, url });
    assert.deepEqual(await reading(answer), TEXTS);
    assert.ok(answer.report.attempts.every(({ waitMs = 0 }) => waitMs < 100));
  });

  test("a redirect is followed, a circle of them ends", async (t) => {
    const to = (path) => refusing(307, { Location: path });
    const found = await serving(t, to("/v2/chat"), rest);
    assert.deepEqual(await reading(streamChat({ ...QUICK, url: found.url })), TEXTS);
    assert.equal(found.asked[1].method, "POST");
    const circle = await serving(t, to("/chat"));
    await assert.rejects(reading(streamChat({ ...QUICK, url: circle.url, attempts: 2 })), { reason: "network" });
  });

  test("a server that takes the question and never answers is left", async (t) => {
    const { url } = await serving(t, ({ headers }, response, { from }) => {
      if (!headers.accept.includes("event-stream")) sending(NDJSON, lines(TEXTS, from))({}, response);
    });
    const answer = streamChat({ ...QUICK, url, silenceMs: 500, fallback: ["sse", "chunked"] });
    assert.deepEqual(await reading(answer), TEXTS);
    assert.deepEqual([...new Set(causesOf(answer))], ["silence", ""]);
  });
});

describe("callers", { concurrency: true }, () => {
  test("an option that is undefined has its default", async (t) => {
    const { url, asked } = await serving(t, refusing(503));
    const answer = streamChat({ ...QUICK, url, attempts: undefined, backoffMs: undefined, backoffCapMs: 1 });
    await assert.rejects(reading(answer), { status: 503 });
    assert.equal(asked.length, 8);
  });

  test("two loops share one answer: each token goes to one of them", async (t) => {
    const { url, asked } = await serving(t, rest);
    const answer = streamChat({ ...QUICK, url });
    const shares = await Promise.all([reading(answer), reading(answer)]);
    assert.deepEqual(shares.flat().sort(), [...TEXTS].sort());
    assert.equal(asked.length, 1);
  });

  test("whoever leaves before the beginning sends nothing", async (t) => {
    const { url, asked } = await serving(t, rest);
    const answer = streamChat({ ...QUICK, url });
    await answer.return();
    assert.deepEqual([(await answer.next()).done, asked.length], [true, 0]);
  });

  test("whoever leaves between two polls asks no more", async (t) => {
    const { url, asked } = await serving(t, accepted("/chat/s1"), page(0, 2));
    for await (const _ of streamChat({ ...QUICK, url, transport: "polling", pollMs: 20 })) break;
    await after(100);
    assert.equal(asked.length, 2);
  });

  test("an abort between two polls, or before a server that is mute, is obeyed at once", async (t) => {
    const pages = await serving(t, accepted("/chat/s1"), page(0, 2));
    const mute = await serving(t, () => {});
    const began = performance.now();
    for (const [url, transport] of [[pages.url, "polling"], [mute.url, "sse"], [mute.url, "polling"]]) {
      const answer = streamChat({ ...QUICK, url, transport, pollMs: 30_000, signal: AbortSignal.timeout(100) });
      await assert.rejects(reading(answer), { name: "TimeoutError" });
      assert.deepEqual(causesOf(answer), ["stopped"]);
    }
    assert.ok(performance.now() - began < 10_000);
  });

  test("an abort behind the end changes nothing", async (t) => {
    const { url } = await serving(t, rest);
    const controller = new AbortController();
    const answer = streamChat({ ...QUICK, url, signal: controller.signal });
    const texts = await reading(answer);
    controller.abort();
    assert.deepEqual([texts, causesOf(answer), answer.report.checked], [TEXTS, [""], "sha256"]);
    assert.equal((await answer.next()).done, true);
  });
});

const MODULES = new URL("../../../clients/browser/", import.meta.url);

describe("a caller who stops and never asks again", { concurrency: true }, () => {
  test("leaves nothing behind that keeps Node alive", async (t) => {
    const { url } = await serving(t, sending(SSE, events(TEXTS).slice(0, 2), "hold"));
    const script = `
      import { streamChat } from "${MODULES}stream-chat.js";
      const stop = new AbortController();
      globalThis.answer = streamChat({ url: "${url}", message: "x", signal: stop.signal });
      await answer.next();
      stop.abort();`;
    const node = spawn(process.execPath, ["--input-type=module", "--eval", script], { stdio: "inherit" });
    const patience = setTimeout(() => node.kill(), 20_000);
    t.after(() => clearTimeout(patience));
    assert.deepEqual(await once(node, "exit"), [0, null]);
  });
});

/** Sockets as Node's programs have them: npm's `ws` (a development tool of the module), which `make check` installs. */
function npmSockets() {
  try {
    return createRequire(MODULES)("ws");
  } catch {
    return undefined;
  }
}

const WebSocket = npmSockets();
const SOON = { timeout: 10_000 };

describe("WebSockets of Node", { concurrency: true, skip: !WebSocket && "npm's ws is not installed: make check" }, () => {
  /** A chat that sends `messages` to each question and then nothing; `left` is called when a client is gone. */
  async function chatting(t, messages, left = () => {}) {
    const { url, server } = await serving(t, refusing(404));
    const sockets = new WebSocket.Server({ server });
    t.after(() => sockets.clients.forEach((client) => client.terminate()));
    sockets.on("connection", (client) => {
      client.on("close", left);
      client.on("message", () => messages.forEach((message) => client.send(JSON.stringify(message))));
    });
    return { ...QUICK, url, transport: "websocket", WebSocket };
  }

  test("an answer", async (t) => {
    assert.deepEqual(await reading(streamChat(await chatting(t, messagesOf(TEXTS)))), TEXTS);
  });

  test("a refusal is one of ours, not an error that nobody catches", async (t) => {
    const { url } = await serving(t, refusing(404));
    const asked = { ...QUICK, url, transport: "websocket", WebSocket, attempts: 2 };
    await assert.rejects(reading(streamChat(asked)), { reason: "refused" });
    const early = new AbortController();
    const answer = reading(streamChat({ ...asked, signal: early.signal }));
    early.abort(); // the socket is not open yet
    await assert.rejects(answer, { name: "AbortError" });
  });

  for (const reason of [null, 0, "", undefined]) {
    test(`an abort with the reason ${JSON.stringify(reason)} is obeyed`, SOON, async (t) => {
      const stop = new AbortController();
      const answer = reading(streamChat({ ...(await chatting(t, [])), signal: stop.signal }));
      setTimeout(() => stop.abort(reason), 50);
      assert.deepEqual(await answer.catch((error) => ({ error })), { error: stop.signal.reason });
    });
  }

  test("an abort closes the connection although the caller still holds a token", SOON, async (t) => {
    const stop = new AbortController();
    const left = new AbortController();
    const asked = await chatting(t, messagesOf(TEXTS).slice(0, 3), () => left.abort());
    const answer = streamChat({ ...asked, signal: stop.signal });
    await answer.next();
    stop.abort();
    if (!left.signal.aborted) await once(left.signal, "abort");
    await assert.rejects(answer.next(), { name: "AbortError" });
  });
});

describe("the whole answer at once", { concurrency: true }, () => {
  for (const [cause, handler] of [
    ["network", sending(JSON_TYPE, ['{"tokens": [{"i": 0,'], "rst")],
    ["status 503", refusing(503)],
    ["format", sending(JSON_TYPE, ["<h1>Log in</h1>"])],
    ["stopped", () => {}],
    ["", sending(JSON_TYPE, [JSON.stringify({ tokens: messagesOf(TEXTS).slice(0, -1) })])],
  ]) {
    test(`its one attempt tells "${cause}"`, async (t) => {
      const { url } = await serving(t, handler);
      const signal = cause === "stopped" ? AbortSignal.timeout(100) : undefined;
      const answer = wholeAnswer({ url, message: "x", signal });
      if (cause) await assert.rejects(reading(answer), cause === "stopped" ? { name: "TimeoutError" } : { reason: cause });
      else assert.deepEqual(await reading(answer), TEXTS);
      assert.deepEqual(causesOf(answer), [cause]);
      assert.equal(answer.report.attempts[0].tokens, cause ? 0 : TEXTS.length);
    });
  }
});

/** Numbers from 0 to below `n` that are the same in every run (mulberry32). */
function numbers(seed) {
  return (n) => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

/** What goes wrong with the bytes of an answer on their way. */
const INJURIES = [
  (bytes, any) => bytes.subarray(0, any(bytes.length)),
  (bytes, any) => Buffer.concat([bytes.subarray(0, any(bytes.length)), bytes]),
  (bytes, any) => bytes.subarray(any(bytes.length)),
  (bytes, any) => Buffer.from(bytes).fill(any(256), any(bytes.length), any(bytes.length)),
  (bytes, any) => Buffer.concat([bytes, Buffer.from("data: {}\n\n{}\n"), bytes]),
  (bytes) => Buffer.from(bytes.toString().replaceAll("\n", "\r\n")),
  (bytes) => Buffer.concat([Buffer.from("\ufeff\r\n\0"), bytes]),
];

describe("fuzz", { concurrency: true }, () => {
  for (const [transport, headers, encode] of [["sse", SSE, events], ["chunked", NDJSON, lines]]) {
    test(`${transport}: whatever becomes of the bytes, the text is exact or the loop throws`, async (t) => {
      const any = numbers(11);
      const { url } = await serving(t, async ({ url: path }, response, { from }) => {
        const injury = any(3) ? INJURIES[any(INJURIES.length)] : (bytes) => bytes;
        const bytes = injury(Buffer.from(encode(TEXTS, from).join("")), any);
        await sending(headers, [bytes.subarray(0, any(40)), bytes], ["end", "fin", "rst"][any(3)])({}, response);
      });
      const ask = async () => {
        const answer = streamChat({ ...QUICK, url, transport, backoffCapMs: 1 });
        const texts = await reading(answer).catch((error) => assert.ok(error instanceof StreamChatError, error));
        if (texts) assert.deepEqual(texts, TEXTS);
        return texts ? "exact" : "thrown";
      };
      const found = await Promise.all(Array.from({ length: 50 }, ask));
      assert.deepEqual([...new Set(found)].sort(), ["exact", "thrown"]);
    });
  }
});
