// @ts-check
/** The race page: one question to all columns at one moment. */
import { part, RaceColumn, seconds } from "/race-column.js";

/** @import { Contestant } from "/race-column.js" */

/**
 * What the server tells of the race (servers/page/__init__.py).
 * @typedef {object} Race
 * @property {Contestant[]} columns
 * @property {string[]} streams
 * @property {string[]} intermediaries
 * @property {string} intermediary
 * @property {number} heartbeat_s  as chosen; 0: none
 * @property {number} time_scale  what the times of profiles, heartbeats and thinking are divided by
 */

const form = part(document, "#question", HTMLFormElement);
const status = part(document, "#status", HTMLElement);
const [replay, cut, stop] = ["replay", "cut", "stop"].map((id) => part(document, `#${id}`, HTMLButtonElement));
const [stream, intermediary, heartbeat, recovery, think] = ["stream", "intermediary", "heartbeat", "recovery", "think"].map(
  (name) => part(form, `[name=${name}]`, HTMLSelectElement),
);
/** @type {RaceColumn[]} */
let columns = [];
let asking = new AbortController();
let seed = 0;

/** @type {Race} */
const race = await (await fetch("/race.json")).json();
showRace(race);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  seed = newSeed();
  void converse();
});
replay.addEventListener("click", converse);
stop.addEventListener("click", () => asking.abort());
lever(cut, "click", async () => {
  const { cut: connections } = await tell("/race/cut", {});
  return connections === 1 ? "1 connection was cut." : `${connections} connections were cut.`;
});
lever(intermediary, "change", async () => {
  race.intermediary = (await tell("/race/intermediary", { profile: intermediary.value })).intermediary;
  return `In between: ${race.intermediary}.`;
});
lever(heartbeat, "change", async () => {
  status.textContent = "The servers are started again …";
  race.heartbeat_s = (await tell("/race/heartbeat", { seconds: Number(heartbeat.value) })).seconds;
  return race.heartbeat_s ? `A heartbeat every ${race.heartbeat_s} s.` : "No heartbeats.";
});

/**
 * A control of what the server has. It is said what became of it; where nothing did, the choices are as they were.
 * @param {HTMLElement} control
 * @param {"click" | "change"} event
 * @param {() => Promise<string>} pull
 */
function lever(control, event, pull) {
  control.addEventListener(event, async () => {
    try {
      status.textContent = await pull();
    } catch (error) {
      status.textContent = `Nothing was changed: ${error instanceof Error ? error.message : error}.`;
      showLevers();
    }
  });
}

/** The intermediary and the heartbeat that the server has. */
function showLevers() {
  intermediary.value = race.intermediary;
  heartbeat.value = `${race.heartbeat_s}`;
}

/**
 * Show the contestants, and the choices that there are.
 * @param {Race} told
 */
function showRace(told) {
  columns = told.columns.map((contestant) => new RaceColumn(contestant));
  part(document, "#columns", HTMLElement).replaceChildren(...columns);
  for (const column of columns) column.alone.addEventListener("click", () => choose(column));
  fill(stream, told.streams, "hosted");
  fill(intermediary, told.intermediaries, told.intermediary);
  showLevers();
  for (const control of [part(form, "#between", HTMLElement), part(form, "#beating", HTMLElement), cut]) {
    control.hidden = told.intermediaries.length === 0;
  }
}

/**
 * @param {HTMLSelectElement} select
 * @param {string[]} values
 * @param {string} chosen
 */
function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value, value, value === chosen, value === chosen)));
}

/**
 * Race one column alone, or all again.
 * @param {RaceColumn} column
 */
function choose(column) {
  const isAlone = column.alone.ariaPressed !== "true";
  for (const other of columns) {
    other.alone.ariaPressed = String(isAlone && other === column);
    other.classList.toggle("aside", isAlone && other !== column);
  }
}

/** Ask; and where somebody thinks, ask the same again after so long, for another answer, until it is stopped. */
async function converse() {
  asking.abort();
  const { signal } = (asking = new AbortController());
  replay.disabled = stop.disabled = false;
  for (;;) {
    const said = await ask(signal);
    if (signal !== asking.signal) return; // another question has been asked since
    const thinkS = Number(think.value);
    const isOver = signal.aborted || !thinkS;
    status.textContent = isOver ? said : `${said} The next question comes after ${thinkS} s of thinking.`;
    if (isOver || !(await pause((thinkS * 1000) / race.time_scale, signal))) break;
    seed = newSeed();
  }
  if (signal !== asking.signal) return;
  if (document.activeElement === stop) replay.focus(); // a button that is disabled loses the keyboard
  stop.disabled = true;
}

/** @param {AbortSignal} signal */
async function ask(signal) {
  const message = part(form, "[name=message]", HTMLInputElement).value;
  const racing = columns.filter((column) => !column.classList.contains("aside"));
  const question = { message, body: { seed, stream: stream.value }, comesBack: recovery.value === "resume", signal };
  status.textContent = "Asked.";
  RaceColumn.spanMs = 1000;
  const failures = await Promise.all(racing.map((column) => column.ask(question)));
  for (const column of racing) column.show(column.endMs); // the strips of those that were done before the last
  return verdict(racing, failures);
}

/**
 * What became of it, in one sentence for everybody; a screen reader reads this and no token.
 * @param {RaceColumn[]} racing
 * @param {string[]} failures
 */
function verdict(racing, failures) {
  const whole = racing.filter((_, k) => !failures[k]);
  const same = new Set(whole.map(({ text }) => text)).size === 1;
  const first = whole.length && whole.reduce((a, b) => (a.times[0] <= b.times[0] ? a : b));
  const lead = first ? ` First token: ${first.contestant.title}, after ${seconds(first.times[0])}.` : "";
  if (whole.length < racing.length) return `${whole.length} of ${racing.length} answers are complete.${lead}`;
  if (whole.length === 1) return `The answer is complete.${lead}`;
  return `All ${whole.length} answers are complete, and ${same ? "the same" : "NOT the same"}.${lead}`;
}

function newSeed() {
  return Math.floor(Math.random() * 2 ** 31);
}

/**
 * Whether the time has passed; not, if it was stopped before.
 * @param {number} ms
 * @param {AbortSignal} signal
 * @returns {Promise<boolean>}
 */
function pause(ms, signal) {
  return new Promise((resolve) => {
    const over = new AbortController();
    /** @param {boolean} isTime */
    const end = (isTime) => {
      over.abort(); // a long talk has many pauses and one signal
      clearTimeout(timer);
      resolve(isTime);
    };
    const timer = setTimeout(end, ms, true);
    signal.addEventListener("abort", () => end(false), { signal: over.signal });
  });
}

/**
 * @param {string} path
 * @param {object} value
 */
async function tell(path, value) {
  const headers = { "Content-Type": "application/json" };
  const asked = { method: "POST", headers, body: JSON.stringify(value) };
  const response = await fetch(path, asked).catch(() => {
    throw new Error("the server of this page does not answer");
  });
  if (!response.ok) throw new Error(`${path}: status ${response.status}`);
  return response.json();
}
