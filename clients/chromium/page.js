// @ts-check
/**
 * The page of the load process: asks what it is told to, shows each answer in a bubble, and notes when each token was
 * there in script and when the frame with it was painted. All times are ms of performance.now().
 *
 * Painted: in each frame, `requestAnimationFrame` is called before style, layout and paint, all of which end before the
 * next task. So what stands in the page at the one has been painted by the other, on the page's side; that the screen
 * shows it is the compositor's work, which Element Timing tells of for the first token (`shownMs`).
 */
import { StreamChatError, streamChat } from "/stream-chat.js";
import { wholeAnswer } from "/whole-answer.js";

/** @import { Transport } from "/stream-chat.js" */

/**
 * What all messages of a cell have alike.
 * @typedef {object} PageOptions
 * @property {Transport | "blocking"} transport
 * @property {string} path  of the chat
 * @property {number} attempts  0: a drop ends the message
 * @property {number} backoffMs
 * @property {number} backoffCapMs
 * @property {number} silenceMs
 * @property {number} tokenSilenceMs
 * @property {number} pollMs
 * @property {number} pollWaitS
 * @property {number} timeoutMs  after the intended start
 * @property {number} thinkMs  between the turns of a conversation
 */

/**
 * @typedef {object} Turn
 * @property {number} k  the message's number
 * @property {number} offsetMs  of a conversation's first message, after the beginning
 * @property {string} message
 * @property {Record<string, unknown>} body
 */

const LEAD_MS = 20;
const SPIN_MS = 2; // a timer may be late by so much: the rest is waited for in short tasks
const LAST_PAINT_MS = 1000; // a page without frames is not waited for for ever
const TELL_MS = 250;
const STILL_FRAMES = 13; // that tell how long a frame is

/** What the browser itself has noted: resources by their fragment, long tasks, first paints by their name. */
const observed = {
  /** @type {Map<string, ReturnType<typeof told>[]>} */
  requests: new Map(),
  /** @type {PerformanceEntry[]} */
  longTasks: [],
  /** @type {Map<string, number>} */
  shownMs: new Map(),
};

/**
 * @param {string} type
 * @param {(entry: any) => void} note
 */
function observe(type, note) {
  const observer = new PerformanceObserver((list) => list.getEntries().forEach(note));
  observer.observe({ type, buffered: true });
  return observer;
}

/**
 * Of a request how long it waited to be sent, and what it took to open its connection, if it opened one.
 * @param {PerformanceResourceTiming} entry
 */
function told(entry) {
  const { connectStart, connectEnd, secureConnectionStart } = entry; // its properties are a prototype's: no rest of them
  const isConnecting = connectEnd > connectStart;
  const tlsMs = isConnecting && secureConnectionStart ? connectEnd - secureConnectionStart : 0;
  return {
    protocol: entry.nextHopProtocol,
    waitedMs: entry.requestStart - entry.fetchStart,
    headMs: entry.responseStart - entry.fetchStart,
    isConnecting,
    dnsMs: entry.domainLookupEnd - entry.domainLookupStart,
    tcpMs: connectEnd - connectStart - tlsMs,
    tlsMs,
  };
}

observe("resource", (entry) => {
  const key = new URL(entry.name).hash;
  const requests = observed.requests.get(key) ?? [];
  observed.requests.set(key, requests);
  requests.push(told(entry));
  performance.clearResourceTimings(); // its buffer would be full at some time
});
observe("longtask", (entry) => observed.longTasks.push(entry));
observe("element", ({ identifier, renderTime }) => observed.shownMs.set(identifier, renderTime));

/** One message's bubble, and what was painted of it. */
class Bubble {
  tokens = 0; // in the page
  inFrame = 0; // of them, in the frame that is being made
  painted = 0; // of them, in a frame before
  /** Each frame with something new: when it was painted, and how many tokens it had. @type {[number, number][]} */
  frames = [];
  dropped = 0;
  isWhole = false;
  over = () => {};

  /** @param {string} name */
  constructor(name) {
    this.element = document.createElement("p");
    this.element.setAttribute("elementtiming", name);
    document.body.append(this.element);
    screen.add(this);
  }

  /** @param {string} text */
  append(text) {
    this.element.append(text); // as text, never as markup
    this.tokens++;
  }

  /** @param {number} nowMs */
  notePainted(nowMs) {
    if (this.inFrame > this.painted) this.frames.push([nowMs, this.inFrame - this.painted]);
    this.painted = this.inFrame;
    if (this.isWhole && this.painted === this.tokens) this.over();
  }

  /** When all that has come is painted. */
  async end() {
    this.isWhole = true;
    if (this.painted < this.tokens) {
      await new Promise((resolve) => {
        this.over = () => resolve(undefined);
        setTimeout(resolve, LAST_PAINT_MS);
      });
    }
    screen.bubbles.delete(this);
    this.element.remove();
  }
}

/** The page's frames, looked at while there are bubbles. */
const screen = new (class Screen {
  /** @type {Set<Bubble>} */
  bubbles = new Set();
  frameMs = 1000 / 60;
  lastMs = NaN;
  channel = new MessageChannel();
  isLooking = false;

  constructor() {
    this.channel.port1.onmessage = () => {
      const nowMs = performance.now();
      for (const bubble of this.bubbles) bubble.notePainted(nowMs);
    };
  }

  /** How long a frame is while nothing happens. */
  async measure() {
    /** @type {number[]} */
    const times = [];
    for (let k = 0; k < STILL_FRAMES; k++) times.push(await new Promise(requestAnimationFrame));
    const gaps = times.slice(1).map((time, k) => time - times[k]);
    this.frameMs = gaps.sort((a, b) => a - b)[gaps.length >> 1];
    return this.frameMs;
  }

  /** @param {Bubble} bubble */
  add(bubble) {
    this.bubbles.add(bubble);
    if (this.isLooking) return;
    this.isLooking = true;
    this.lastMs = NaN;
    requestAnimationFrame(this.frame);
  }

  /** Before a frame is made. @param {number} nowMs */
  frame = (nowMs) => {
    const missed = Math.round((nowMs - this.lastMs) / this.frameMs) - 1 || 0;
    this.lastMs = nowMs;
    for (const bubble of this.bubbles) {
      bubble.dropped += Math.max(0, missed);
      bubble.inFrame = bubble.tokens;
    }
    this.channel.port2.postMessage(0); // the task behind the frame
    this.isLooking = this.bubbles.size > 0;
    if (this.isLooking) requestAnimationFrame(this.frame);
  };
})();

/**
 * @param {PageOptions} options
 * @param {Turn} turn
 * @param {number} intendedMs
 */
async function ask(options, { k, message, body }, intendedMs) {
  const bubble = new Bubble(`${k}`);
  const startMs = performance.now();
  const signal = AbortSignal.timeout(Math.max(0, intendedMs + options.timeoutMs - startMs));
  const answer = begin(options, { k, message, body, signal });
  /** @type {{ i: number[], text: string[], due: number[], sent: number[], atMs: number[], read: number[] }} */
  const tokens = { i: [], text: [], due: [], sent: [], atMs: [], read: [] };
  let failure = "";
  let [bytes, reads, readMs] = [-1, 0, 0];
  try {
    for await (const { i, t, due = 0, sent = 0 } of answer) {
      if (answer.report.bytes !== bytes) {
        bytes = answer.report.bytes; // more was read; what one read brings is handed out within one task
        reads++;
        readMs = performance.now();
      }
      tokens.i.push(i);
      tokens.text.push(t);
      tokens.due.push(due);
      tokens.sent.push(sent);
      tokens.atMs.push(readMs);
      tokens.read.push(reads);
      bubble.append(t);
    }
  } catch (error) {
    failure = signal.aborted ? "timeout" : reasonOf(error);
  }
  const endMs = performance.now();
  await bubble.end();
  const { frames, dropped } = bubble;
  const { attempts, requests } = answer.report;
  return { k, intendedMs, startMs, endMs, failure, tokens, frames, dropped, attempts, requests };
}

/** @param {any} error */
function reasonOf(error) {
  return String(error?.reason ?? error?.message ?? error) || "unknown";
}

/**
 * @param {PageOptions} options
 * @param {{ k: number, message: string, body: Record<string, unknown>, signal: AbortSignal }} question
 */
function begin({ transport, path, ...limits }, { k, ...question }) {
  const url = `${path}#${k}`; // the fragment stays here: it tells which message a request was for
  if (transport === "blocking") return wholeAnswer({ url, ...question, signal: patience(question.signal, limits) });
  if (transport === "websocket") return streamChat({ url: path, transport, ...limits, ...question });
  /** @type {typeof globalThis.fetch} */
  const tagged = (address, init) => fetch(Object.assign(new URL(String(address)), { hash: `${k}` }), init);
  return streamChat({ url, transport, fetch: tagged, ...limits, ...question });
}

/**
 * How long a whole answer is waited for: nothing of it comes before all of it, so both silences begin with the request.
 * @param {AbortSignal} signal
 * @param {Pick<PageOptions, "silenceMs" | "tokenSilenceMs">} limits
 */
function patience(signal, { silenceMs, tokenSilenceMs }) {
  const over = new AbortController();
  const reason = silenceMs < tokenSilenceMs ? "silence" : "token silence";
  setTimeout(() => over.abort(new StreamChatError(reason)), Math.min(silenceMs, tokenSilenceMs));
  return AbortSignal.any([signal, over.signal]);
}

/** @typedef {Awaited<ReturnType<typeof ask>>} Answer */

/**
 * What the browser tells of a message's requests, and of long tasks while it went on.
 * @param {Answer} answer
 */
function withObserved(answer) {
  const during = observed.longTasks.filter(
    ({ startTime, duration }) => startTime < answer.endMs && startTime + duration > answer.startMs,
  );
  const longTasksMs = during.map(({ duration }) => duration);
  const shownMs = observed.shownMs.get(`${answer.k}`) ?? 0;
  return { ...answer, seen: observed.requests.get(`#${answer.k}`) ?? [], longTasksMs, shownMs };
}

/** @param {number} ms */
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** @param {number} atMs */
async function until(atMs) {
  for (;;) {
    const leftMs = atMs - performance.now();
    if (leftMs <= 0) return;
    await (leftMs > SPIN_MS ? sleep(leftMs - SPIN_MS) : aTask());
  }
}

function aTask() {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve) => {
    port1.onmessage = () => {
      port1.close();
      resolve(undefined);
    };
    port2.postMessage(0);
  });
}

/**
 * Ask all conversations, side by side; what became of each message, as JSON.
 * @param {{ options: PageOptions, conversations: Turn[][] }} told
 */
async function run({ options, conversations }) {
  const beginMs = performance.now() + LEAD_MS;
  /** @type {Answer[]} */
  const answers = [];
  const messages = conversations.flat().length;
  let toldMs = 0;

  /** @param {Turn[]} turns */
  async function converse(turns) {
    let intendedMs = beginMs + turns[0].offsetMs;
    for (const turn of turns) {
      await until(intendedMs);
      answers.push(await ask(options, turn, intendedMs));
      tell();
      intendedMs = performance.now() + options.thinkMs;
    }
  }

  function tell() {
    if (performance.now() - toldMs < TELL_MS && answers.length < messages) return; // the end is always told
    toldMs = performance.now();
    /** @type {any} */ (window).tokenderbyProgress?.(answers.length, messages); // in the warm-up nobody listens
  }

  await Promise.all(conversations.map(converse));
  await sleep(2 * screen.frameMs); // observers are called at leisure
  return JSON.stringify(answers.map(withObserved));
}

/**
 * Round trips to a clock: asked, what it said, answered.
 * @param {{ url: string, rounds: number }} told
 * @returns {Promise<[number, number, number][]>}
 */
async function readClock({ url, rounds }) {
  const socket = new WebSocket(url);
  await new Promise((resolve, reject) => {
    socket.onopen = resolve;
    socket.onerror = () => reject(new Error("the clock cannot be reached"));
  });
  /** @type {[number, number, number][]} */
  const readings = [];
  while (readings.length < rounds) {
    const askedMs = performance.now();
    socket.send("");
    const said = await new Promise((resolve, reject) => {
      socket.onmessage = ({ data }) => resolve(Number(data));
      socket.onclose = () => reject(new Error("the clock has closed"));
    });
    readings.push([askedMs, said, performance.now()]);
  }
  socket.close();
  return readings;
}

Object.assign(window, { tokenderby: { run, readClock, frameMs: () => screen.measure() } });
