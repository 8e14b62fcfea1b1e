/** One contestant of the race: a bubble that fills, and what its stream is like while it does. */
import { streamChat } from "/stream-chat.js";

/**
 * The whole answer at once, as it comes without streaming; told as `streamChat` tells its own.
 * @param {{ url: string, message: string, body: object, signal: AbortSignal }} question
 */
function wholeAnswer({ url, message, body, signal }) {
  const report = { attempts: [], requests: 0, bytes: 0 };
  return Object.assign(read(), { report });

  async function* read() {
    const headers = { "Content-Type": "application/json" };
    report.requests++;
    const response = await fetch(url, { method: "POST", headers, body: JSON.stringify({ ...body, message }), signal });
    const text = await response.text();
    report.bytes += text.length;
    if (!response.ok) throw new Error(`status ${response.status}`);
    yield* JSON.parse(text).tokens;
  }
}

const CALM = matchMedia("(prefers-reduced-motion: reduce)");
const CALM_MS = 500; // between two updates for those who want little to move

export class RaceColumn extends HTMLElement {
  /** How long all strips are, in ms; it doubles when it is too short. */
  static spanMs = 1000;

  /** @param {{ transport: string, title: string, colour: string, url: string }} column */
  set column(column) {
    this.contestant = column;
    this.append(document.getElementById("column").content.cloneNode(true));
    this.dataset.transport = column.transport;
    this.style.setProperty("--colour", column.colour);
    const title = this.querySelector("h2");
    title.textContent = column.title;
    this.bubble = this.querySelector(".bubble");
    this.bubble.setAttribute("aria-label", `The answer over ${column.title}`);
    this.strip = this.querySelector(".strip");
    this.outcome = this.querySelector(".outcome");
    this.figures = Object.fromEntries(
      Array.from(this.querySelectorAll("[data-figure]"), (element) => [element.dataset.figure, element]),
    );
    this.reset();
  }

  get alone() {
    return this.querySelector(".alone");
  }

  reset() {
    this.text = "";
    this.waiting = ""; // came, but is not shown yet
    /** Of each token, ms since the question. */
    this.times = [];
    this.longestMs = 0; // between two tokens
    this.drawn = 0; // tokens, in a strip of so many ms
    this.drawnMs = 0;
    this.answer = undefined;
    this.endMs = undefined;
    this.bubble.replaceChildren(document.createTextNode(""));
    this.outcome.textContent = "";
    delete this.dataset.state;
  }

  /**
   * Ask, show the answer as it comes, and say what became of it: "" or why it is not whole.
   * @param {{ message: string, body: object, comesBack: boolean, signal: AbortSignal }} question
   */
  async ask({ message, body, comesBack, signal }) {
    this.reset();
    const { transport, url } = this.contestant;
    const question = { url, transport, message, body, signal, attempts: comesBack ? 20 : 0, silenceMs: 10_000 };
    const beganMs = performance.now();
    this.dataset.state = "asking";
    this.bubble.ariaBusy = "true";
    this.answer = transport === "blocking" ? wholeAnswer(question) : streamChat(question);
    const showing = this.showUntilOver(beganMs, signal);
    let failure = "";
    try {
      for await (const { t } of this.answer) {
        const ms = performance.now() - beganMs;
        this.longestMs = Math.max(this.longestMs, ms - (this.times.at(-1) ?? ms));
        this.times.push(ms);
        this.text += t;
        this.waiting += t;
      }
    } catch (error) {
      failure = signal.aborted ? "stopped" : error.message;
    }
    this.endMs = performance.now() - beganMs;
    await showing;
    this.bubble.ariaBusy = "false";
    this.dataset.state = failure ? "failed" : "complete";
    this.outcome.textContent = failure ? `Not complete: ${failure}` : `Complete after ${seconds(this.endMs)}`;
    return failure;
  }

  /** Once a frame, until the answer is over. */
  async showUntilOver(beganMs) {
    while (this.endMs === undefined) {
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
      this.bubble.firstChild.appendData(this.waiting); // as text: nothing that a model says is markup
      this.waiting = "";
      if (isAtEnd) this.bubble.scrollTop = this.bubble.scrollHeight;
    }
    const { times, figures } = this;
    const { attempts = [], requests = 0, bytes = 0 } = this.answer?.report ?? {};
    const drops = attempts.filter(({ cause, endMs }) => endMs !== undefined && cause && cause !== "stopped");
    const recoveries = drops.filter((drop) => attempts.slice(attempts.indexOf(drop) + 1).some(({ tokens }) => tokens));
    const openMs = this.endMs === undefined ? nowMs - times.at(-1) : 0; // the pause under way
    const spanS = (times.at(-1) - times[0]) / 1000;
    figures.ttft.textContent = times.length ? seconds(times[0]) : `${seconds(nowMs)} …`;
    figures.rate.textContent = spanS > 0.05 ? ((times.length - 1) / spanS).toFixed(0) : "–";
    figures.pause.textContent = times.length > 1 ? seconds(Math.max(this.longestMs, openMs)) : "–";
    figures.requests.textContent = `${requests}`;
    figures.bytes.textContent = bytes < 10_000 ? `${bytes}` : `${(bytes / 1000).toFixed(0)} k`;
    figures.drops.textContent = `${drops.length}`;
    figures.recoveries.textContent = `${recoveries.length}`;
    this.draw(Math.max(nowMs, 1), drops);
  }

  /**
   * The strip: a line for each token, where it came in the time since the question; a block below for each drop.
   * Only what is new is drawn, unless the strip has become too short.
   */
  draw(nowMs, drops) {
    const { strip, times } = this;
    while (nowMs > RaceColumn.spanMs) RaceColumn.spanMs *= 2;
    if (this.drawnMs !== RaceColumn.spanMs) {
      this.drawnMs = RaceColumn.spanMs;
      strip.width = strip.clientWidth * devicePixelRatio || 300; // clears it
      this.drawn = 0;
    }
    const context = strip.getContext("2d");
    const style = getComputedStyle(this);
    const at = (ms) => (ms / this.drawnMs) * (strip.width - 2);
    context.fillStyle = style.getPropertyValue("--colour");
    for (; this.drawn < times.length; this.drawn++) {
      context.fillRect(at(times[this.drawn]), 0, Math.max(1, devicePixelRatio), strip.height - 8);
    }
    context.fillStyle = style.color;
    for (const { endMs } of drops) context.fillRect(at(endMs) - 2, strip.height - 7, 4, 7);
  }
}

/** @param {number} ms */
export function seconds(ms) {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

customElements.define("race-column", RaceColumn);
