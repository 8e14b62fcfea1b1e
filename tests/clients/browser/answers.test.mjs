// Whole answers over real sockets: exact, and exact again after every kind of drop.
import assert from "node:assert/strict";
import { test } from "node:test";
import { streamChat } from "../../../clients/browser/stream-chat.js";
import {
  events, JSON_TYPE, lines, messagesOf, NDJSON, reading, refusing, sending, serving, SSE, vectors,
} from "./support.mjs"; // prettier-ignore

const TEXTS = ["Hello", " the", "", "\n\n", "[DONE]", "é"];
const QUICK = { message: "x", backoffMs: 1 };

for (const { texts, raw, sha256, ...answers } of vectors("answers")) {
  for (const [transport, headers] of [["sse", SSE], ["chunked", NDJSON]]) {
    for (const pieces of ["whole", "in pieces of 7 bytes"]) {
      test(`${transport}, ${raw ? "raw" : "escaped"}, ${pieces}: every dangerous text arrives`, async (t) => {
        const bytes = Buffer.from(answers[transport]);
        const size = pieces === "whole" ? bytes.length : 7;
        const parts = Array.from({ length: Math.ceil(bytes.length / size) }, (_, k) =>
          bytes.subarray(k * size, (k + 1) * size),
        );
        const { url } = await serving(t, (_, response) => {
          response.writeHead(200, headers);
          for (const part of parts) response.write(part);
          response.end();
        });
        const answer = streamChat({ ...QUICK, url, transport });
        assert.deepEqual(await reading(answer), texts);
        assert.deepEqual([answer.report.checked, answer.report.attempts.length], ["sha256", 1]);
        assert.equal(answer.report.bytes, bytes.length);
      });
    }
  }
}

for (const how of ["end", "fin", "rst"]) {
  test(`${how}: it goes on at the next index`, async (t) => {
    const causes = [];
    const { url, asked } = await serving(
      t,
      sending(SSE, [...events(TEXTS).slice(0, 2), events(TEXTS)[2].slice(0, 20)], how),
      (request, response) => sending(SSE, events(TEXTS, 2))(request, response),
    );
    const answer = streamChat({ ...QUICK, url, onattempt: ({ cause }) => causes.push(cause) });
    assert.deepEqual(await reading(answer), TEXTS);
    assert.deepEqual(causes, [how === "end" ? "end" : "network", ""]);
    assert.equal(asked[1].headers["last-event-id"], "s1/1");
    const [first, second] = asked.map(({ body }) => JSON.parse(body));
    assert.deepEqual([first.from, second.from], [undefined, 2]);
    assert.equal(first.stream_id, second.stream_id);
    assert.deepEqual(answer.report.attempts.map(({ tokens }) => tokens), [2, 4]);
  });
}

test("chunked resumes by `from`", async (t) => {
  const { url } = await serving(t, sending(NDJSON, lines(TEXTS).slice(0, 3), "rst"), (_, response, { from }) =>
    sending(NDJSON, lines(TEXTS, from))(_, response),
  );
  assert.deepEqual(await reading(streamChat({ ...QUICK, url, transport: "chunked" })), TEXTS);
});

test("silence is counted in bytes: a heartbeat breaks it", async (t) => {
  const { url } = await serving(t, async (_, response) => {
    response.writeHead(200, SSE);
    for (let beat = 0; beat < 16; beat++) {
      response.write(": heartbeat\n");
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    response.end(events(TEXTS).join(""));
  });
  const answer = streamChat({ ...QUICK, url, silenceMs: 1500 });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.equal(answer.report.attempts.length, 1);
});

test("silence in tokens passes over heartbeats", async (t) => {
  const beating = (_, response) => {
    response.writeHead(200, SSE);
    response.write(events(TEXTS)[0]);
    const timer = setInterval(() => response.write(": heartbeat\n"), 50);
    response.on("close", () => clearInterval(timer));
  };
  const { url } = await serving(t, beating, sending(SSE, events(TEXTS, 1)));
  const answer = streamChat({ ...QUICK, url, tokenSilenceMs: 300 });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.equal(answer.report.attempts[0].cause, "token silence");
});

test("a caller who takes his time is no silence", async (t) => {
  const { url } = await serving(t, sending(SSE, events(TEXTS)));
  const answer = streamChat({ ...QUICK, url, silenceMs: 100 });
  const texts = [];
  for await (const { t: text } of answer) {
    texts.push(text);
    if (texts.length === 1) await new Promise((resolve) => setTimeout(resolve, 700));
  }
  assert.deepEqual([texts, answer.report.attempts.length], [TEXTS, 1]);
});

test("a status that may pass, and how long the server wants to be left alone", async (t) => {
  const { url } = await serving(t, refusing(502), refusing(503, { "Retry-After": "1" }), sending(SSE, events(TEXTS)));
  const answer = streamChat({ ...QUICK, url });
  assert.deepEqual(await reading(answer), TEXTS);
  const { attempts } = answer.report;
  assert.deepEqual(attempts.map(({ cause }) => cause), ["status 502", "status 503", ""]);
  assert.ok(attempts[0].waitMs < 100 && attempts[1].waitMs >= 1000);
  assert.ok(attempts[2].startMs - attempts[1].endMs >= 900);
});

test("`retry:` of the stream is the least that is waited", async (t) => {
  const { url } = await serving(t, sending(SSE, ["retry: 300\n", events(TEXTS)[0]], "rst"), sending(SSE, events(TEXTS, 1)));
  const answer = streamChat({ ...QUICK, url });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.ok(answer.report.attempts[0].waitMs >= 300);
});

test("a server that wants to be left alone for an hour is an error at once", async (t) => {
  const { url } = await serving(t, refusing(503, { "Retry-After": "3600" }));
  await assert.rejects(reading(streamChat({ ...QUICK, url })), { reason: "status 503", retryAfterMs: 3_600_000 });
});

test("a refusal is final, and says why", async (t) => {
  const body = JSON.stringify({ error: { code: "bad_request", message: "seed: takes a number" } });
  const { url, asked } = await serving(t, refusing(400, JSON_TYPE, body));
  await assert.rejects(reading(streamChat({ ...QUICK, url })), { status: 400, message: "seed: takes a number" });
  assert.equal(asked.length, 1);
});

test("so many attempts in a row without a new token, and no more", async (t) => {
  const { url, asked } = await serving(t, sending(SSE, events(TEXTS).slice(0, 1), "rst"), sending(SSE, [], "end"));
  await assert.rejects(reading(streamChat({ ...QUICK, url, attempts: 3 })), { reason: "end" });
  assert.equal(asked.length, 4);
});

test("a server that repeats itself for ever brings nothing new", async (t) => {
  const { url, asked } = await serving(t, sending(SSE, events(TEXTS).slice(0, 2), "end"));
  await assert.rejects(reading(streamChat({ ...QUICK, url, attempts: 3 })), { reason: "end" });
  assert.equal(asked.length, 4);
});

test("the server has lost the answer: it is asked anew, and what had come is passed over", async (t) => {
  const unknown = JSON.stringify({ error: { code: "unknown_stream", message: "no stream is kept" } });
  const { url, asked } = await serving(
    t,
    sending(SSE, events(TEXTS).slice(0, 3), "rst"),
    refusing(404, JSON_TYPE, unknown),
    sending(SSE, events(TEXTS)),
  );
  const answer = streamChat({ ...QUICK, url });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.equal(answer.report.restarts, 1);
  assert.equal(asked[2].headers["last-event-id"], undefined);
  assert.notEqual(JSON.parse(asked[2].body).stream_id, JSON.parse(asked[0].body).stream_id);
});

test("a new answer with another beginning is an error, not a text of two halves", async (t) => {
  const other = ["Hello", " some", "thing else"];
  const { url } = await serving(t, sending(SSE, events(TEXTS).slice(0, 3), "rst"), refusing(404), sending(SSE, events(other)));
  await assert.rejects(reading(streamChat({ ...QUICK, url })), { reason: "changed" });
});

test("repeated tokens are passed over; missing ones are fetched", async (t) => {
  const all = events(TEXTS);
  const { url } = await serving(t, sending(SSE, [all[0], all[0], all[1], all[0], all[3]]), (_, response, { from }) =>
    sending(SSE, events(TEXTS, from))(_, response),
  );
  const answer = streamChat({ ...QUICK, url });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.equal(answer.report.attempts[0].cause, "gap");
});

test("an end that comes too early is a gap", async (t) => {
  const all = events(TEXTS);
  const { url } = await serving(t, sending(SSE, [all[0], all.at(-1)]), (_, response, { from }) =>
    sending(SSE, events(TEXTS, from))(_, response),
  );
  assert.deepEqual(await reading(streamChat({ ...QUICK, url })), TEXTS);
});

test("a text that is not the one that the server meant is an error", async (t) => {
  const altered = events(TEXTS).map((event) => event.replace("Hello", "Hallo"));
  const { url } = await serving(t, sending(SSE, altered));
  await assert.rejects(reading(streamChat({ ...QUICK, url })), { reason: "altered" });
});

test("no hash: the number of tokens is checked", async (t) => {
  const plain = events(TEXTS).map((event) => event.replace(/,"sha256":"\w+"/, ""));
  const { url } = await serving(t, sending(SSE, plain));
  const answer = streamChat({ ...QUICK, url });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.equal(answer.report.checked, "count");
});

test("a page instead of a stream is refused", async (t) => {
  const { url } = await serving(t, sending({ "Content-Type": "text/html" }, ["<h1>Log in</h1>"]));
  await assert.rejects(reading(streamChat({ ...QUICK, url, attempts: 2 })), { reason: "format", message: /text\/html/ });
});

test("polling: pages until the end, and a page that was lost is asked for again", async (t) => {
  const page = (from, to, done) => (_, response) => {
    const { n, sha256 } = messagesOf(TEXTS).at(-1);
    const tokens = messagesOf(TEXTS).slice(from, to);
    response.writeHead(200, JSON_TYPE);
    response.end(JSON.stringify({ tokens, next: to, done, ...(done ? { n, sha256 } : {}) }));
  };
  const accepted = (_, response) => response.writeHead(202, JSON_TYPE).end('{"stream_id": "s1", "poll": "/chat/s1"}');
  const cut = (_, response) => response.socket.destroy();
  const { url, asked } = await serving(t, accepted, page(0, 0), page(0, 4), cut, page(4, 6, true));
  const answer = streamChat({ ...QUICK, url, transport: "polling", pollMs: 50 });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.deepEqual(asked.map(({ url: path }) => path), [
    "/chat", "/chat/s1?from=0", "/chat/s1?from=0", "/chat/s1?from=4", "/chat/s1?from=4",
  ]); // prettier-ignore
  assert.deepEqual(answer.report.attempts.map(({ cause }) => cause), ["network", ""]);
});

test("a path to poll on another host is refused: our headers would go there", async (t) => {
  const { url, asked } = await serving(t, (_, response) =>
    response.writeHead(202, JSON_TYPE).end('{"poll": "//127.0.0.2:9/chat/s1"}'),
  );
  const headers = { Authorization: "Bearer secret" };
  const answer = streamChat({ ...QUICK, url, headers, transport: "polling", attempts: 1 });
  await assert.rejects(reading(answer), { reason: "format" });
  assert.deepEqual(asked.map(({ method }) => method), ["POST"]);
});

test("abort throws the signal's reason at once and frees the connection", async (t) => {
  const closed = withResolvers();
  const { url } = await serving(t, (_, response) => {
    response.on("close", closed.resolve);
    sending(SSE, events(TEXTS).slice(0, 2), "hold")(_, response);
  });
  const controller = new AbortController();
  const texts = [];
  const reason = new Error("enough");
  await assert.rejects(async () => {
    for await (const { t: text } of streamChat({ ...QUICK, url, signal: controller.signal })) {
      texts.push(text);
      if (texts.length === 2) setTimeout(() => controller.abort(reason), 20);
    }
  }, reason);
  await closed.promise;
  assert.deepEqual(texts, TEXTS.slice(0, 2));
});

test("abort while it waits for its next attempt", async (t) => {
  const { url } = await serving(t, refusing(503, { "Retry-After": "30" }));
  const signal = AbortSignal.timeout(100);
  await assert.rejects(reading(streamChat({ ...QUICK, url, signal })), { name: "TimeoutError" });
});

test("a signal that was aborted before: nothing is sent", async (t) => {
  const { url, asked } = await serving(t, sending(SSE, events(TEXTS)));
  await assert.rejects(reading(streamChat({ ...QUICK, url, signal: AbortSignal.abort() })), { name: "AbortError" });
  assert.equal(asked.length, 0);
});

test("leaving the loop frees the connection", async (t) => {
  const closed = withResolvers();
  const { url } = await serving(t, (_, response) => {
    response.on("close", closed.resolve);
    sending(SSE, events(TEXTS).slice(0, 2), "hold")(_, response);
  });
  const answer = streamChat({ ...QUICK, url });
  for await (const _ of answer) break;
  await closed.promise;
  assert.equal(answer.report.attempts[0].cause, "stopped");
});

test("a clock that jumped: the connection has to show that it lives", async (t) => {
  const { url } = await serving(t, sending(SSE, events(TEXTS).slice(0, 2), "hold"), sending(SSE, events(TEXTS, 2)));
  const now = Date.now;
  t.after(() => (Date.now = now));
  const texts = [];
  const answer = streamChat({ ...QUICK, url, wakeMs: 300 });
  for await (const { t: text } of answer) {
    if (texts.push(text) === 2) setTimeout(() => (Date.now = () => now() + 3_600_000), 300);
  }
  assert.deepEqual(texts, TEXTS);
  assert.equal(answer.report.attempts[0].cause, "sleep");
});

test("a connection that lives on after a sleep is kept", async (t) => {
  const { url } = await serving(t, async (_, response) => {
    response.writeHead(200, SSE);
    response.write(events(TEXTS)[0]);
    setTimeout(() => response.end(events(TEXTS, 1).join("")), 1300);
  });
  const now = Date.now;
  t.after(() => (Date.now = now));
  setTimeout(() => (Date.now = () => now() + 3_600_000), 300);
  const answer = streamChat({ ...QUICK, url, silenceMs: 60_000, wakeMs: 5000 });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.equal(answer.report.attempts.length, 1);
});

test("fallback: a transport that is held back gives way at once", async (t) => {
  const { url } = await serving(t, sending(SSE, [], "hold"), sending(NDJSON, lines(TEXTS)));
  const answer = streamChat({ ...QUICK, url, silenceMs: 300, fallback: ["sse", "chunked"] });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.deepEqual(answer.report.attempts.map(({ transport }) => transport), ["sse", "chunked"]);
});

test("fallback: a transport that is refused is not tried again", async (t) => {
  const { url } = await serving(
    t,
    refusing(405),
    sending(NDJSON, lines(TEXTS).slice(0, 1), "rst"),
    refusing(503),
    refusing(503),
    (_, response, { from }) => sending(NDJSON, lines(TEXTS, from))(_, response),
  );
  const answer = streamChat({ ...QUICK, url, transport: "sse", fallback: ["chunked"] });
  assert.deepEqual(await reading(answer), TEXTS);
  const tried = answer.report.attempts.map(({ transport, cause }) => `${transport} ${cause}`);
  assert.deepEqual(tried, ["sse status 405", "chunked network", "chunked status 503", "chunked status 503", "chunked "]);
});

test("fallback: two drops in a row, and the next transport goes on where this one stopped", async (t) => {
  const { url } = await serving(
    t,
    sending(SSE, events(TEXTS).slice(0, 2), "rst"),
    refusing(502),
    refusing(502),
    (_, response, { from }) => sending(NDJSON, lines(TEXTS, from))(_, response),
  );
  const answer = streamChat({ ...QUICK, url, transport: "sse", fallback: ["chunked"] });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.deepEqual(answer.report.attempts.map(({ transport, from }) => `${transport} ${from}`), [
    "sse 0", "sse 2", "sse 2", "chunked 2",
  ]); // prettier-ignore
});

test("fallback: what this place does not have is passed over", async (t) => {
  const { url } = await serving(t, sending(NDJSON, lines(TEXTS)));
  const fallback = ["eventsource", "sse", "chunked"];
  const answer = streamChat({ ...QUICK, url: { eventsource: url, chunked: url }, EventSource: null, fallback });
  assert.deepEqual(await reading(answer), TEXTS);
  assert.deepEqual(answer.report.attempts.map(({ cause }) => cause), ["unsupported", "unsupported", ""]);
});

test("the next answer uses the same connection", async (t) => {
  const { url, server } = await serving(t, sending(SSE, events(TEXTS)));
  let connections = 0;
  server.on("connection", () => connections++);
  for (let turn = 0; turn < 3; turn++) {
    await reading(streamChat({ ...QUICK, url }));
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.equal(connections, 1);
});

test("an unknown transport is an error before anything is sent", () => {
  assert.throws(() => streamChat({ url: "http://127.0.0.1:9", message: "x", transport: "pigeon" }), TypeError);
});

function withResolvers() {
  const made = {};
  made.promise = new Promise((resolve, reject) => Object.assign(made, { resolve, reject }));
  return made;
}
