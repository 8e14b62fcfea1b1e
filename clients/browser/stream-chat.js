/**
 * Reads a chat answer token by token, over polling, WebSocket, chunked HTTP, SSE by fetch or the browser's EventSource,
 * and comes back by itself after a drop: no token is lost, repeated or out of order. README.md says how to use it;
 * docs/wire-format.md what a server has to send.
 */

/** @typedef {"polling" | "websocket" | "chunked" | "sse" | "eventsource"} Transport */

/**
 * Token number `i` (from 0) and its text. Our servers add when the model made it and when it was sent (their ns).
 * @typedef {{ i: number, t: string, due?: number, sent?: number }} Token
 */

/** @typedef {{ done: true, n: number, sha256?: string }} End */

/**
 * One try. Times are ms since `streamChat` was called; `cause` is "" where the answer came to its end, else one or two
 * words: "network", "end", "silence", "token silence", "sleep", "online", "offline", "refused", "unsupported", "format",
 * "gap", "status 502", "error busy", "close 1006", "stopped" (by the caller); `waitMs` is the pause behind it.
 * @typedef {object} Attempt
 * @property {Transport} transport
 * @property {number} from  the first token asked for
 * @property {number} startMs
 * @property {number} [firstTokenMs]
 * @property {number} [endMs]
 * @property {number} tokens  new ones
 * @property {string} cause
 * @property {number} [waitMs]
 */

/**
 * What the answer took so far. `bytes` are those of bodies and messages, unpacked. `checked` says how the whole text was
 * compared with the end message ("count" where there is no hash, or no `crypto.subtle`, as in a page without HTTPS).
 * @typedef {object} Report
 * @property {Attempt[]} attempts
 * @property {number} requests
 * @property {number} bytes
 * @property {number} restarts  how often the server had lost the answer and was asked for it again
 * @property {"" | "count" | "sha256"} checked
 */

/**
 * @typedef {object} Options
 * @property {string | URL | Partial<Record<Transport, string | URL>>} url  of the chat, or one for each transport
 * @property {string} message  what the user says
 * @property {Transport} [transport]  the first to be tried; default: the first of `fallback`, or "sse"
 * @property {Transport[]} [fallback]  what to go over to, in turn, when a transport fails for good or is held back
 * @property {AbortSignal} [signal]  stops it: the loop throws the signal's reason
 * @property {Record<string, unknown>} [body]  more keys for the request
 * @property {Record<string, string>} [headers]  for what goes through fetch
 * @property {RequestCredentials} [credentials]  default "same-origin"
 * @property {number} [attempts]  in a row without a new token, before it gives up; default 8
 * @property {number} [backoffMs]  default 100; before attempt k it waits a random time up to this × 2^k
 * @property {number} [backoffCapMs]  default 5000
 * @property {number} [silenceMs]  a connection on which nothing came for so long is given up; default 30000
 * @property {number} [tokenSilenceMs]  the same without a token, whatever else came (heartbeats); default: no limit
 * @property {number} [wakeMs]  how long a connection may be mute after a sleep or a change of network; default 1500
 * @property {number} [pollMs]  from one poll to the next; default 1000
 * @property {number} [pollWaitS]  how long the server may hold a poll; default 0
 * @property {(attempt: Attempt) => void} [onattempt]  called when an attempt is over
 * @property {typeof globalThis.fetch} [fetch]
 * @property {typeof globalThis.WebSocket} [WebSocket]
 * @property {typeof globalThis.EventSource} [EventSource]
 */

const DEFAULTS = {
  credentials: /** @type {RequestCredentials} */ ("same-origin"),
  attempts: 8,
  backoffMs: 100,
  backoffCapMs: 5000,
  silenceMs: 30_000,
  tokenSilenceMs: Infinity,
  wakeMs: 1500,
  pollMs: 1000,
  pollWaitS: 0,
};
const MAX_MESSAGE_CHARS = 4 << 20; // of one line or event
const MAX_ANSWER_CHARS = 64 << 20;
const ITEM_CHARS = 64; // what a token or a frame costs beside its text: empty ones are not free
const MAX_ERROR_CHARS = 1 << 16;
const EVENT_STREAM = "text/event-stream";
const TICK_MS = 250;
const JUMP_MS = 3000; // between two ticks: the device slept, or the page was frozen
const MAX_WAIT_MS = 60_000; // a server that asks for more is an error for the user
const OFFLINE_WAIT_MS = 5000; // offline, the next attempt waits so long or until the network is back ...
const OFFLINE_MS = 300_000; // ... and failures do not count for so long
const CLOSED = 2; // an EventSource that does not come back by itself
const LINGER_MS = 2000; // for the rest of a response behind the end message, so that its connection can be used again
// Statuses, and codes of errors in the place of a message, that another try may change.
const PASSING = /^(status (408|425|429|50[0234]|52[0-4])|error (busy|stopping|redis_unavailable|internal|source_.*))$/;
const UNKNOWN = /^(status 4(04|10)|error unknown_stream)$/; // of an answer that had begun: it is lost

// What to do about a failure: try again; over another transport if there is one; over another only; anew; nothing.
const RETRY = 0, SWITCH = 1, FINAL = 2, LOST = 3, FATAL = 4; // prettier-ignore

const now = () => performance.now();

/** Why an answer, or an attempt at it, failed. */
export class StreamChatError extends Error {
  name = "StreamChatError";
  /** The server's wish before the next attempt. */
  retryAfterMs = 0;
  /** The HTTP status, or 0. */
  status = 0;

  /**
   * @param {string} reason  one or two words, as in `Attempt.cause`; "changed" or "altered": what came is another text
   * @param {string} [message]  for people
   * @param {number} [then]
   */
  constructor(reason, message = reason, then = RETRY) {
    super(message);
    this.reason = reason;
    this.then = then;
  }
}

/**
 * The tokens of one answer, to be read with `for await`; the question is sent when that begins. Leaving the loop closes
 * the connection. Throws StreamChatError, or the signal's reason.
 * @param {Options} options
 * @returns {AsyncGenerator<Token, void, void> & { report: Report }}
 */
export function streamChat(options) {
  /** @type {Report} */
  const report = { attempts: [], requests: 0, bytes: 0, restarts: 0, checked: "" };
  const link = new Link(options, report);
  return Object.assign(answer(link), { report });
}

/** @param {Link} link */
async function* answer(link) {
  link.listen();
  try {
    for (;;) {
      const attempt = link.begin();
      try {
        for await (const messages of TRANSPORTS[attempt.transport](link)) {
          for (const message of messages) {
            if ("done" in message) {
              await link.check(message);
              attempt.cause = "";
              return;
            }
            if (!link.accept(message, attempt)) continue;
            link.waits = true;
            yield message;
            link.waits = false;
            link.goOn();
          }
        }
        throw new StreamChatError("end", "the answer is not whole");
      } catch (error) {
        link.goOn();
        link.decide(error, attempt);
      } finally {
        link.end(attempt);
      }
      await link.pause(attempt.waitMs ?? 0);
    }
  } finally {
    link.over.abort();
  }
}

/** One answer on its way: what has come, what the next attempt asks for, and whether this one is still alive. */
class Link {
  /** Ends with the whole answer. */
  over = new AbortController();
  /** Ends with the attempt; its signal's reason says why. */
  attempt = new AbortController();
  /** @type {string[]} */
  texts = [];
  chars = 0;
  /** The index that the server's stream is at; below texts.length while a new stream repeats what had come. */
  first = 0;
  streamId = newId();
  lastEventId = "";
  retryMs = 0;
  /** Not before then: the server's own wish. */
  notBeforeMs = 0;
  poll = "";
  /** The caller holds a token, or the next poll is not due yet: then silence is nobody's fault. */
  waits = false;
  isComplete = false;
  failures = 0; // in a row without a new token
  failuresHere = 0; // ... over this transport
  beganMs = now();
  heardMs = 0;
  tokenMs = 0; // when a token was asked for, or came
  /** @type {ReturnType<typeof setInterval> | undefined} */
  timer;
  progressMs = this.beganMs;
  suspectMs = Infinity;
  suspicion = "";
  wake = () => {};
  leave = (/** @type {void} */ _) => {};

  /**
   * @param {Options} options
   * @param {Report} report
   */
  constructor(options, report) {
    const given = Object.entries(options).filter(([, value]) => value !== undefined);
    this.options = { ...DEFAULTS, .../** @type {Options} */ (Object.fromEntries(given)) };
    this.report = report;
    const { transport, fallback = [] } = options;
    this.transports = [...new Set(transport ? [transport, ...fallback] : fallback)];
    if (!this.transports.length) this.transports.push("sse");
    for (const transport of this.transports) {
      if (!(transport in TRANSPORTS)) throw new TypeError(`no transport ${transport}`);
    }
  }

  /** Watch for what tells that a connection may be dead although nobody closed it. */
  listen() {
    this.goOn();
    const until = { signal: this.over.signal };
    let hiddenAt = Infinity;
    for (const change of ["online", "offline"]) {
      globalThis.addEventListener?.(change, () => this.suspect(change), until);
    }
    const page = globalThis.document;
    page?.addEventListener(
      "visibilitychange",
      () => {
        if (!page.hidden && Date.now() - hiddenAt > JUMP_MS) this.suspect("sleep");
        hiddenAt = page.hidden ? Date.now() : Infinity;
      },
      until,
    );
    const stop = () => {
      this.over.abort(); // now: a caller who holds a token may never ask for the next one
      this.stop();
      this.leave();
    };
    this.options.signal?.addEventListener("abort", stop, until);
  }

  /** @returns {Attempt} */
  begin() {
    this.attempt = new AbortController();
    this.heardMs = this.tokenMs = now();
    this.suspectMs = Infinity;
    this.waits = false;
    let clock = Date.now();
    this.timer = setInterval(() => {
      const jumped = Date.now() - clock > JUMP_MS;
      clock = Date.now();
      if (jumped && !globalThis.document?.hidden) this.suspect("sleep"); // a hidden page's timers are slow anyway
      this.tick(now(), jumped);
    }, TICK_MS);
    const startMs = now() - this.beganMs;
    const attempt = { transport: this.transports[0], from: this.first, startMs, tokens: 0, cause: "stopped" };
    this.report.attempts.push(attempt);
    return attempt;
  }

  /**
   * @param {number} nowMs
   * @param {boolean} excused
   */
  tick(nowMs, excused) {
    const { silenceMs, tokenSilenceMs, wakeMs } = this.options;
    if (this.waits || excused) this.heardMs = this.tokenMs = nowMs;
    /**
     * @param {string} reason
     * @param {number} ms
     */
    const giveUp = (reason, ms, then = SWITCH) =>
      this.attempt.abort(new StreamChatError(reason, `${reason} for ${ms} ms`, then));
    if (!this.waits && nowMs > this.suspectMs) giveUp(this.suspicion, wakeMs, RETRY);
    if (nowMs - this.heardMs > silenceMs) giveUp("silence", silenceMs);
    if (nowMs - this.tokenMs > tokenSilenceMs) giveUp("token silence", tokenSilenceMs);
  }

  /** @param {string} why  the connection may be dead: something has to come soon */
  suspect(why) {
    this.suspicion = why;
    this.suspectMs = now() + this.options.wakeMs;
    this.wake();
  }

  /** @param {number} bytes  that have just come */
  hear(bytes) {
    this.report.bytes += bytes;
    this.suspectMs = Infinity;
    this.heardMs = now();
  }

  /**
   * Whether it is the next token; one that had come before has to be the same.
   * @param {Token} token
   * @param {Attempt} attempt
   */
  accept({ i, t }, attempt) {
    if (i > this.first) throw new StreamChatError("gap", `token ${i} came where ${this.first} was due`);
    if (i === this.first) this.tokenMs = now(); // one that is repeated is no progress
    this.first = Math.max(this.first, i + 1);
    if (i < this.texts.length) {
      if (this.texts[i] !== t) throw new StreamChatError("changed", `another token ${i} than before`, FATAL);
      return false;
    }
    this.texts.push(t);
    if ((this.chars += t.length + ITEM_CHARS) > MAX_ANSWER_CHARS) throw new StreamChatError("format", "too long", FATAL);
    this.progressMs = this.tokenMs;
    attempt.firstTokenMs ??= this.tokenMs - this.beganMs;
    attempt.tokens++;
    return true;
  }

  /** @param {End} end  has to fit what has come */
  async check({ n, sha256 }) {
    if (this.first < n) throw new StreamChatError("gap", `${this.first} of ${n} tokens came`);
    const { subtle } = globalThis.crypto;
    let fits = n === this.texts.length;
    if (fits && sha256 && subtle) {
      const digest = await subtle.digest("SHA-256", new TextEncoder().encode(this.texts.join("")));
      fits = hex(new Uint8Array(digest)) === sha256;
    }
    if (!fits) throw new StreamChatError("altered", "the text is not the one sent", FATAL);
    this.report.checked = sha256 && subtle ? "sha256" : "count";
    this.isComplete = true;
  }

  /**
   * What comes after a failure: sets the attempt's `waitMs`, or throws.
   * @param {unknown} error
   * @param {Attempt} attempt
   */
  decide(error, attempt) {
    if (!(error instanceof StreamChatError)) throw error;
    const { options, transports } = this;
    const { reason, retryAfterMs } = error;
    const then = UNKNOWN.test(reason) && (this.first || this.poll) ? LOST : error.then;
    attempt.cause = reason;
    if (reason === "gap") this.lastEventId = ""; // it may be of a token behind the gap
    if (attempt.tokens) this.failures = this.failuresHere = 0;
    const isOffline = globalThis.navigator?.onLine === false;
    if (!isOffline || now() - this.progressMs > OFFLINE_MS) this.failures += +!attempt.tokens;
    this.failuresHere += +!attempt.tokens;
    const wishMs = Math.max(retryAfterMs, this.retryMs);
    const isLast = then === FINAL && transports.length === 1;
    if (then === FATAL || isLast || this.failures >= options.attempts || wishMs > MAX_WAIT_MS) throw error;
    if (then === LOST) this.startAgain();
    if (then === SWITCH || then === FINAL || this.failuresHere > 1) this.goOver(then === FINAL);
    const backoffMs = Math.random() * Math.min(options.backoffCapMs, options.backoffMs * 2 ** this.failures);
    this.notBeforeMs = now() + wishMs;
    attempt.waitMs = Math.max(wishMs, isOffline ? OFFLINE_WAIT_MS : 0, backoffMs);
  }

  /** The server has lost the answer: ask for it anew, and pass over what had come. */
  startAgain() {
    this.report.restarts++;
    this.first = 0;
    this.streamId = newId();
    this.lastEventId = this.poll = "";
  }

  /** @param {boolean} forGood  this transport is not tried again */
  goOver(forGood) {
    if (this.transports.length === 1) return;
    const [failed] = this.transports.splice(0, 1);
    if (!forGood) this.transports.push(failed);
    this.failuresHere = this.retryMs = 0;
    this.lastEventId = this.poll = "";
  }

  /** Close the connection of the attempt. */
  stop = () => {
    clearInterval(this.timer);
    this.attempt.abort(new StreamChatError("stopped"));
  };

  /** @param {Attempt} attempt */
  end(attempt) {
    attempt.endMs = now() - this.beganMs;
    clearInterval(this.timer);
    // Node's timers would keep the process alive; those of browsers are numbers.
    if (this.isComplete) /** @type {any} */ (setTimeout(this.stop, LINGER_MS)).unref?.();
    else this.stop();
    this.options.onattempt?.(attempt);
  }

  /**
   * Wait, but not longer than until the network or the page is back, and the server's wish is over. Throws if stopped.
   * @param {number} ms
   */
  async pause(ms) {
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    let timer;
    this.goOn();
    await new Promise((resolve) => {
      const wait = (/** @type {number} */ ms) => {
        clearTimeout(timer);
        timer = setTimeout(resolve, ms);
      };
      this.wake = () => wait(this.notBeforeMs - now());
      this.leave = resolve;
      wait(ms);
    });
    clearTimeout(timer);
    this.goOn();
  }

  /** Throws the caller's reason if he has stopped it. */
  goOn() {
    this.options.signal?.throwIfAborted();
  }

  get url() {
    const { url } = this.options;
    const address = typeof url === "string" || url instanceof URL ? url : url[this.transports[0]];
    return new URL(known(address, "url"), globalThis.location?.href);
  }

  /** The chat request. */
  get question() {
    const { body, message } = this.options;
    return { ...body, message, stream_id: this.streamId, ...(this.first ? { from: this.first } : {}) };
  }

  /** Ask by POST. */
  post(headers = {}) {
    headers = { "Content-Type": "application/json", ...headers };
    return this.ask(this.url, { method: "POST", headers, body: JSON.stringify(this.question) });
  }

  /**
   * The response to a request, if it is a good one.
   * @param {URL} url
   * @param {{ method?: string, headers?: Record<string, string>, body?: string }} [init]
   */
  async ask(url, init = {}) {
    const { fetch = globalThis.fetch, credentials } = this.options;
    const { signal } = this.attempt;
    const headers = { ...init.headers, ...this.options.headers };
    this.report.requests++;
    this.tokenMs = now();
    const response = await fetch(url, { ...init, headers, credentials, signal, cache: "no-store" }).catch(this.failed);
    this.hear(0);
    const isEmpty = response.status === 204 || !response.body; // 204: "do not come back"; in Chromium it has a body
    if (!response.ok || isEmpty) throw await this.refusal(response);
    return response;
  }

  /** @param {Response} response */
  async refusal(response) {
    const { status } = response;
    const told = await readJson(this, response, MAX_ERROR_CHARS, LINGER_MS).catch(() => {});
    const error = refused(`status ${status}`, told?.error ?? told?.detail);
    const [after, date] = ["Retry-After", "Date"].map((name) => response.headers.get(name) ?? "");
    const nowMs = Date.parse(date) || Date.now(); // by the server's clock, if it is told
    error.status = status;
    error.retryAfterMs = Math.max(0, /^\d+$/.test(after) ? +after * 1000 : Date.parse(after) - nowMs || 0);
    return error;
  }

  /**
   * A connection is lost, or was given up: the reason that we gave counts.
   * @param {unknown} error
   * @returns {never}
   */
  failed = (error) => {
    const { signal } = this.attempt;
    throw signal.aborted ? signal.reason : new StreamChatError("network", String(error));
  };
}

/** @type {Record<Transport, (link: Link) => AsyncGenerator<(Token | End)[], void, void>>} */
const TRANSPORTS = {
  async *chunked(link) {
    const decoder = new LineDecoder();
    for await (const bytes of read(link, ofType(await link.post(), "ndjson"))) {
      yield decoder.feed(bytes).map(decode);
    }
  },

  async *sse(link) {
    const decoder = new EventDecoder();
    const { lastEventId } = link;
    const isSayable = /^[!-~]{1,256}$/.test(lastEventId); // in a header; `from` says the same
    const asked = link.post({ Accept: EVENT_STREAM, ...(isSayable && { "Last-Event-ID": lastEventId }) });
    for await (const bytes of read(link, ofType(await asked, EVENT_STREAM))) {
      const messages = decoder.feed(bytes).flatMap(decodeEvent);
      link.lastEventId = decoder.lastEventId || link.lastEventId;
      link.retryMs = Math.min(decoder.retryMs ?? link.retryMs, MAX_WAIT_MS);
      yield messages;
    }
  },

  async *eventsource(link) {
    const { EventSource = globalThis.EventSource, credentials } = link.options;
    const url = link.url;
    for (const [key, value] of Object.entries(link.question)) {
      url.searchParams.set(key, typeof value === "string" ? value : JSON.stringify(value));
    }
    link.report.requests++;
    const source = new (known(EventSource, "EventSource"))(url, { withCredentials: credentials === "include" });
    const inbox = new Inbox(link, source);
    for (const type of ["message", "end"]) {
      source.addEventListener(type, ({ data }) => inbox.put({ type, data }));
    }
    source.onerror = (/** @type {any} */ { data }) => {
      if (data) inbox.put({ type: "error", data }); // the server's own event, of the same name
      else inbox.fail(new StreamChatError(source.readyState === CLOSED ? "refused" : "network"));
    };
    try {
      for await (const events of inbox.read()) yield events.flatMap(decodeEvent);
    } catch (error) {
      // An EventSource does not say what it was refused with; asking once more does.
      if (error instanceof StreamChatError && error.reason === "refused") {
        ofType(await link.ask(url, { headers: { Accept: EVENT_STREAM } }), EVENT_STREAM);
      }
      throw error;
    }
  },

  async *websocket(link) {
    const { WebSocket = globalThis.WebSocket } = link.options;
    const url = link.url;
    url.protocol = url.protocol.replace("http", "ws");
    link.report.requests++;
    const socket = new (known(WebSocket, "WebSocket"))(url);
    const inbox = new Inbox(link, socket);
    let isOpen = false;
    socket.onopen = () => {
      isOpen = true;
      link.hear(0);
      socket.send(JSON.stringify(link.question));
    };
    socket.onmessage = ({ data }) => inbox.put(data);
    socket.onclose = ({ code }) =>
      inbox.fail(isOpen ? new StreamChatError(`close ${code}`) : new StreamChatError("refused", "no upgrade", SWITCH));
    socket.onerror = () => {}; // a close follows; Node's sockets throw what nobody listens to
    for await (const frames of inbox.read()) yield frames.map(decode);
  },

  async *polling(link) {
    if (!link.poll) {
      link.poll = pollUrl((await readJson(link, await link.post()))?.poll, link.url);
    }
    const { pollMs, pollWaitS } = link.options;
    for (;;) {
      const askedMs = now();
      const { first } = link;
      const url = new URL(link.poll);
      url.searchParams.set("from", `${first}`);
      if (pollWaitS) url.searchParams.set("wait", `${pollWaitS}`);
      const { tokens, done, n, sha256 } = (await readJson(link, await link.ask(url))) ?? {};
      if (!Array.isArray(tokens)) throw new StreamChatError("format", "not a page", SWITCH);
      yield [...tokens, ...(done ? [{ done, n, sha256 }] : [])].map(asMessage);
      const tookMs = now() - askedMs;
      // A poll that the server held, or answered with something new, is followed at once; others would be a busy loop.
      const isDue = pollWaitS > 0 && (link.first > first || tookMs >= 900 * pollWaitS);
      link.waits = true;
      if (!isDue) await link.pause(pollMs - tookMs);
      link.waits = false;
      link.heardMs = now();
    }
  },
};

/** What came from a socket that calls back, in order, and then what it failed with. */
class Inbox {
  /** @type {any[]} */
  items = [];
  chars = 0;
  /** @type {unknown} */
  failure;
  wake = (/** @type {void} */ _) => {};

  /**
   * @param {Link} link
   * @param {{ close(): void }} socket
   */
  constructor(link, socket) {
    const { signal } = link.attempt;
    this.link = link;
    this.socket = socket;
    signal.addEventListener("abort", () => {
      socket.close(); // now, also while the caller holds a token
      this.fail(signal.reason);
    });
  }

  /** @param {any} item  a frame, or an event with data */
  put(item) {
    const { length = 0 } = item.data ?? item;
    this.link.hear(length);
    this.items.push(item);
    if ((this.chars += length + ITEM_CHARS) > MAX_ANSWER_CHARS) this.fail(new StreamChatError("format", "too long", FATAL));
    this.wake();
  }

  /** @param {unknown} error */
  fail(error) {
    this.failure ??= error;
    this.wake();
  }

  /** All that has come since, each time there is something. */
  async *read() {
    try {
      for (;;) {
        if (this.items.length) yield this.items.splice(0);
        else if (this.failure) throw this.failure;
        else await /** @type {Promise<void>} */ (new Promise((resolve) => (this.wake = resolve)));
      }
    } finally {
      this.socket.close(); // an EventSource would come back by itself, at a constant pace and for ever
    }
  }
}

/**
 * The bytes of a body as they come.
 * @param {Link} link
 * @param {Response} response
 */
async function* read(link, response) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read().catch(link.failed);
      if (done) return;
      link.hear(value.length);
      yield value;
    }
  } finally {
    if (link.isComplete) void readOn(reader); // else the attempt's end aborts it
  }
}

/** @param {ReadableStreamDefaultReader<Uint8Array>} reader */
async function readOn(reader) {
  try {
    while (!(await reader.read()).done);
  } catch {
    // given up after LINGER_MS; the answer is complete all the same
  }
}

/**
 * The whole body as JSON; undefined if it is none.
 * @param {Link} link
 * @param {Response} response
 */
async function readJson(link, response, limitChars = MAX_ANSWER_CHARS, limitMs = Infinity) {
  const utf8 = new TextDecoder();
  const beganMs = now();
  let text = "";
  for await (const bytes of read(link, response)) {
    text += utf8.decode(bytes, { stream: true });
    const isTooLong = text.length > limitChars || now() - beganMs > limitMs;
    if (isTooLong) throw new StreamChatError("format", "too long", SWITCH);
  }
  return parse(text + utf8.decode());
}

/**
 * @param {Response} response
 * @param {string} type
 */
function ofType(response, type) {
  const given = response.headers.get("Content-Type")?.toLowerCase() ?? "";
  if (given.includes(type)) return response;
  response.body?.cancel().catch(() => {});
  throw new StreamChatError("format", `${given || "no type"} where ${type} was due`, SWITCH);
}

/** Bytes in, whole lines out; what follows the last line's end is kept, and nobody knows what it would have been. */
class Lines {
  rest = "";
  afterCr = false;
  utf8 = new TextDecoder(); // it drops one byte-order mark in front, and puts split characters together

  /**
   * @param {boolean} crEnds  whether CR ends a line too, alone or before LF
   * @param {number} limitChars
   */
  constructor(crEnds, limitChars) {
    this.crEnds = crEnds;
    this.limitChars = limitChars;
  }

  /** @param {Uint8Array} bytes */
  feed(bytes) {
    let text = this.utf8.decode(bytes, { stream: true });
    if (!text) return [];
    if (this.afterCr && text[0] === "\n") text = text.slice(1);
    this.afterCr = this.crEnds && text.endsWith("\r");
    const lines = text.split(this.crEnds ? /\r\n|\r|\n/ : "\n");
    lines[0] = this.rest + lines[0];
    this.rest = lines[lines.length - 1];
    for (const line of lines) checkSize(line.length, this.limitChars);
    return lines.slice(0, -1);
  }
}

/** Decodes JSON lines: bytes in, lines that are not blank out. Only LF ends a line. */
export class LineDecoder {
  constructor(limitChars = MAX_MESSAGE_CHARS) {
    this.lines = new Lines(false, limitChars);
  }

  /** @param {Uint8Array} bytes */
  feed(bytes) {
    return this.lines.feed(bytes).filter((line) => line && line !== "\r");
  }
}

/** Decodes an event stream by the standard (WHATWG HTML 9.2.6): bytes in, events out. */
export class EventDecoder {
  /** What to resume behind: the id at the last dispatch. */
  lastEventId = "";
  /** @type {number | undefined} how long the server wants a client to wait before it comes back */
  retryMs;
  nextId = "";
  type = "";
  /** @type {string[]} */
  data = [];
  dataChars = 0;

  constructor(limitChars = MAX_MESSAGE_CHARS) {
    this.limitChars = limitChars;
    this.lines = new Lines(true, limitChars);
  }

  /** @param {Uint8Array} bytes */
  feed(bytes) {
    return this.lines.feed(bytes).flatMap((line) => (line ? this.field(line) : this.dispatch()));
  }

  /**
   * @param {string} line
   * @returns {never[]}
   */
  field(line) {
    const [, name, value = ""] = /** @type {RegExpExecArray} */ (/^([^:]*)(?:: ?(.*))?$/s.exec(line));
    if (name === "data") {
      this.data.push(value);
      checkSize((this.dataChars += value.length + 1), this.limitChars);
    } else if (name === "event") this.type = value;
    else if (name === "id" && !value.includes("\0")) this.nextId = value;
    else if (name === "retry" && /^\d{1,15}$/.test(value)) this.retryMs = +value;
    return [];
  }

  dispatch() {
    this.lastEventId = this.nextId;
    const { type, data } = this;
    this.type = "";
    this.data = [];
    this.dataChars = 0;
    return data.length ? [{ type: type || "message", data: data.join("\n"), id: this.lastEventId }] : [];
  }
}

/**
 * @param {number} chars
 * @param {number} limitChars
 */
function checkSize(chars, limitChars) {
  if (chars > limitChars) throw new StreamChatError("format", `a line or an event of more than ${limitChars}`, SWITCH);
}

/**
 * @param {{ type: string, data: string }} event  of a type not ours, or OpenAI's sentinel: passed over
 * @returns {(Token | End)[]}
 */
function decodeEvent({ type, data }) {
  return ["message", "end", "error"].includes(type) && data !== "[DONE]" ? [decode(data)] : [];
}

/** @param {unknown} text  a message as JSON */
function decode(text) {
  return asMessage(parse(text));
}

/**
 * @param {any} value
 * @returns {Token | End}
 */
function asMessage(value) {
  const isIndex = (/** @type {any} */ number) => Number.isSafeInteger(number) && number >= 0;
  if (isIndex(value?.i) && typeof value.t === "string") return value;
  if (value?.done === true && isIndex(value.n)) return value;
  const error = value?.error;
  if (!error) throw new StreamChatError("format", "neither a token nor an end", SWITCH);
  throw refused(`error ${error.code ?? error.type ?? "unknown"}`, error);
}

/**
 * The server's own refusal.
 * @param {string} reason
 * @param {any} error  with a message, as ours and OpenAI's, or the message itself
 */
function refused(reason, error) {
  const told = error?.message ?? error;
  const message = (typeof told === "string" && told) || reason;
  return new StreamChatError(reason, message, PASSING.test(reason) ? RETRY : FINAL);
}

/**
 * Where to poll. A server behind a base path that is not told to it sends the path from its own root: so what `chat` has
 * in front of that goes before it.
 * @param {unknown} poll  as the server said
 * @param {URL} chat
 */
function pollUrl(poll, chat) {
  let url;
  try {
    url = new URL(`${poll}`, chat);
  } catch {
    // no address at all
  }
  // Our headers go there: no other host may get them.
  if (!poll || url?.origin !== chat.origin) throw new StreamChatError("format", "no path to poll", SWITCH);
  const parent = url.pathname.replace(/\/[^/]*$/, "");
  if (parent && chat.pathname.endsWith(parent)) url.pathname = chat.pathname + url.pathname.slice(parent.length);
  return url.href;
}

/**
 * @param {unknown} text
 * @returns {any}
 */
function parse(text) {
  try {
    return JSON.parse(String(text));
  } catch {
    return undefined;
  }
}

/**
 * What a transport needs; without it another one is tried.
 * @template T
 * @param {T | undefined} needed
 * @param {string} name
 */
function known(needed, name) {
  if (!needed) throw new StreamChatError("unsupported", `no ${name}`, FINAL);
  return needed;
}

/** A random id, in pages without HTTPS too, where there is no randomUUID. */
function newId() {
  return hex(crypto.getRandomValues(new Uint8Array(16)));
}

/** @param {Uint8Array} bytes */
function hex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
