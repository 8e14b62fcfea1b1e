// @ts-check
/** One contestant of the race: a bubble that fills, and what its stream is like while it does. */
import { streamChat } from "/stream-chat.js";
import { wholeAnswer } from "/whole-answer.js";

/** @import { Attempt, Report, Transport } from "/stream-chat.js" */

/** @typedef {{ transport: Transport | "blocking", title: string, colour: string, url: string }} Contestant */

/**
 * @typedef {object} Question
 * @property {string} message
 * @property {Record<string, unknown>} body
 * @property {boolean} comesBack
 * @property {AbortSignal} signal
 */

const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const CALM_MS = 500; // between two updates for those who want little to move

/**
 * An element that the page's own template has.
 * @template {Element} E
 * @param {ParentNode} parent
 * @param {string} selector
 * @param {new () => E} kind
 * @returns {E}
 */
export function part(parent, selector, kind) {
  const found = parent.querySelector(selector);
  if (!(found instanceof kind)) throw new TypeError(`no ${selector}`);
  return found;
}

export class RaceColumn extends HTMLElement {
  /** How long all strips are, in ms; it doubles when it is too short. */
  static spanMs = 1000;

  text = "";
  waiting = ""; // came, but is not shown yet
  /** Of each token, ms since the question. @type {number[]} */
  times = [];
  longestMs = 0; // between two tokens
  drawn = 0; // tokens, in a strip of so many ms
  drawnMs = 0;
  endMs = NaN;
  /** @type {Report | undefined} */
  report = undefined;
  shown = document.createTextNode("");

  /** @param {Contestant} contestant */
  constructor(contestant) {
    super();
    this.contestant = contestant;
    this.append(part(document, "#column", HTMLTemplateElement).content.cloneNode(true));
    this.dataset.transport = contestant.transport;
    this.style.setProperty("--colour", contestant.colour);
    part(this, "h2", HTMLElement).textContent = contestant.title;
    this.alone = part(this, ".alone", HTMLButtonElement);
    this.alone.ariaLabel = `${this.alone.textContent}: ${contestant.title}`;
    this.bubble = part(this, ".bubble", HTMLElement);
    this.bubble.setAttribute("aria-label", `The answer over ${contestant.title}`);
    this.strip = part(this, ".strip", HTMLCanvasElement);
    this.outcome = part(this, ".outcome", HTMLElement);
    this.reset();
  }

  reset() {
    this.text = this.waiting = "";
    this.times = [];
    this.longestMs = this.drawn = this.drawnMs = 0;
    this.report = undefined;
    this.endMs = NaN;
    this.shown = document.createTextNode("");
    this.bubble.replaceChildren(this.shown);
    this.outcome.textContent = "";
    delete this.dataset.state;
  }

  /**
   * Ask, show the answer as it comes, and say what became of it: "" or why it is not whole.
   * @param {Question} question
   */
  async ask({ message, body, comesBack, signal }) {
    this.reset();
    const beganMs = performance.now();
    this.dataset.state = "asking";
    this.bubble.ariaBusy = "true";
    const answer = this.begin({ message, body, signal, attempts: comesBack ? 20 : 0, silenceMs: 10_000 });
    this.report = answer.report;
    const showing = this.showUntilOver(beganMs);
    let failure = "";
    try {
      for await (const { t } of answer) this.take(t, performance.now() - beganMs);
    } catch (error) {
      failure = signal.aborted ? "stopped" : error instanceof Error ? error.message : String(error);
    }
    this.endMs = performance.now() - beganMs;
    await showing;
    this.bubble.ariaBusy = "false";
    this.dataset.state = failure ? "failed" : "complete";
    this.outcome.textContent = failure ? `Not complete: ${failure}` : `Complete after ${seconds(this.endMs)}`;
    return failure;
  }

  /** @param {{ message: string, body: Record<string, unknown>, signal: AbortSignal, attempts: number, silenceMs: number }} options */
  begin(options) {
    const { transport, url } = this.contestant;
    if (transport === "blocking") return wholeAnswer({ url, ...options });
    return streamChat({ url, transport, ...options });
  }

  /**
   * @param {string} text  of a token
   * @param {number} ms  since the question
   */
  take(text, ms) {
    this.longestMs = Math.max(this.longestMs, ms - (this.times.at(-1) ?? ms));
    this.times.push(ms);
    this.text += text;
    this.waiting += text;
  }

  /**
   * Once a frame, until the answer is over.
   * @param {number} beganMs
   */
  async showUntilOver(beganMs) {
    while (Number.isNaN(this.endMs)) {
      this.show(performance.now() - beganMs);
      await new Promise((resolve) => {
        // A hidden page has no frames; it looks again when it is shown, or when the answer is over.
        if (CALM.matches || document.hidden) setTimeout(resolve, CALM_MS);
        else requestAnimationFrame(resolve);
      });
    }
    this.show(this.endMs);
  }

  /** @param {number} nowMs  since the question */
  show(nowMs) {
    if (this.waiting) {
      const isAtEnd = this.bubble.scrollHeight - this.bubble.scrollTop - this.bubble.clientHeight < 40;
      this.shown.appendData(this.waiting); // as text: nothing that a model says is markup
      this.waiting = "";
      if (isAtEnd) this.bubble.scrollTop = this.bubble.scrollHeight;
    }
    const { attempts = [], requests = 0, bytes = 0 } = this.report ?? {};
    const drops = attempts.filter(({ cause, endMs }) => endMs !== undefined && cause && cause !== "stopped");
    const recoveries = drops.filter((drop) => attempts.slice(attempts.indexOf(drop) + 1).some(({ tokens }) => tokens));
    this.showPace(nowMs);
    this.tell("requests", `${requests}`);
    this.tell("bytes", bytes < 10_000 ? `${bytes}` : `${(bytes / 1000).toFixed(0)} k`);
    this.tell("drops", `${drops.length}`);
    this.tell("recoveries", `${recoveries.length}`);
    this.draw(Math.max(nowMs, 1), drops);
  }

  /** @param {number} nowMs */
  showPace(nowMs) {
    const { times } = this;
    const [first = nowMs, last = nowMs] = [times[0], times.at(-1)];
    const isOver = !Number.isNaN(this.endMs);
    const openMs = isOver ? 0 : nowMs - last; // the pause under way
    const spanS = (last - first) / 1000;
    this.tell("ttft", times.length ? seconds(first) : isOver ? "–" : `${seconds(nowMs)} …`);
    this.tell("rate", spanS > 0.05 ? ((times.length - 1) / spanS).toFixed(0) : "–");
    this.tell("pause", times.length > 1 ? seconds(Math.max(this.longestMs, openMs)) : "–");
  }

  /**
   * @param {string} figure
   * @param {string} text
   */
  tell(figure, text) {
    part(this, `[data-figure=${figure}]`, HTMLElement).textContent = text;
  }

  /**
   * The strip: a line for each token, where it came in the time since the question; a block below for each drop.
   * Only what is new is drawn, unless the strip has become too short.
   * @param {number} nowMs
   * @param {Attempt[]} drops
   */
  draw(nowMs, drops) {
    const { strip, times } = this;
    while (nowMs > RaceColumn.spanMs) RaceColumn.spanMs *= 2;
    if (this.drawnMs !== RaceColumn.spanMs) {
      this.drawnMs = RaceColumn.spanMs;
      strip.width = strip.clientWidth * devicePixelRatio || 300; // clears it
      this.drawn = 0;
    }
    const context = /** @type {CanvasRenderingContext2D} */ (strip.getContext("2d"));
    const style = getComputedStyle(this);
    /** @param {number} ms */
    const at = (ms) => (ms / this.drawnMs) * (strip.width - 2);
    context.fillStyle = style.getPropertyValue("--colour");
    for (; this.drawn < times.length; this.drawn++) {
      context.fillRect(at(times[this.drawn]), 0, Math.max(1, devicePixelRatio), strip.height - 8);
    }
    context.fillStyle = style.color;
    for (const { endMs = 0 } of drops) context.fillRect(at(endMs) - 2, strip.height - 7, 4, 7);
  }
}

/** @param {number} ms */
export function seconds(ms) {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

customElements.define("race-column", RaceColumn);
