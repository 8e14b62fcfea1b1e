/** The race page: one question to all columns at one moment. */
import { RaceColumn, seconds } from "/race-column.js";

const form = document.getElementById("question");
const status = document.getElementById("status");
const [replay, cut, stop] = ["replay", "cut", "stop"].map((id) => document.getElementById(id));
const [between, beating] = ["between", "beating"].map((id) => document.getElementById(id));
/** @type {RaceColumn[]} */
let columns = [];
let asking = new AbortController();
let seed = 0;

const race = await (await fetch("/race.json")).json();
showRace(race);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  seed = Math.floor(Math.random() * 2 ** 31);
  ask();
});
replay.addEventListener("click", ask);
stop.addEventListener("click", () => asking.abort());
cut.addEventListener("click", async () => {
  const { cut: connections } = await tell("/race/cut", {});
  status.textContent = connections === 1 ? "1 connection was cut." : `${connections} connections were cut.`;
});
form.elements.intermediary.addEventListener("change", async ({ target }) => {
  const { intermediary } = await tell("/race/intermediary", { profile: target.value });
  status.textContent = `In between: ${intermediary}.`;
});
form.elements.heartbeat.addEventListener("change", async ({ target }) => {
  status.textContent = "The servers are started again …";
  const { seconds: every } = await tell("/race/heartbeat", { seconds: Number(target.value) });
  status.textContent = every ? `A heartbeat every ${every} s.` : "No heartbeats.";
});

/** Show the contestants, and the choices that there are. */
function showRace({ columns: contestants, streams, intermediaries, intermediary }) {
  columns = contestants.map((column) => Object.assign(document.createElement("race-column"), { column }));
  document.getElementById("columns").replaceChildren(...columns);
  for (const column of columns) column.alone.addEventListener("click", () => choose(column));
  fill(form.elements.stream, streams, "hosted");
  fill(form.elements.intermediary, intermediaries, intermediary);
  between.hidden = beating.hidden = cut.hidden = intermediaries.length === 0;
}

function fill(select, values, chosen) {
  select.replaceChildren(...values.map((value) => new Option(value, value, value === chosen, value === chosen)));
}

/** Race one column alone, or all again. */
function choose(column) {
  const isAlone = column.alone.ariaPressed !== "true";
  for (const other of columns) {
    other.alone.ariaPressed = String(isAlone && other === column);
    other.classList.toggle("aside", isAlone && other !== column);
  }
}

async function ask() {
  asking.abort();
  const mine = (asking = new AbortController());
  const { message, stream, recovery } = Object.fromEntries(new FormData(form));
  const racing = columns.filter((column) => !column.classList.contains("aside"));
  const question = { message, body: { seed, stream }, comesBack: recovery === "resume", signal: mine.signal };
  replay.disabled = stop.disabled = false;
  status.textContent = "Asked.";
  RaceColumn.spanMs = 1000;
  const failures = await Promise.all(racing.map((column) => column.ask(question)));
  if (mine !== asking) return;
  for (const column of racing) column.show(column.endMs); // the strips of those that were done before the last
  stop.disabled = true;
  status.textContent = verdict(racing, failures);
}

/** What became of it, in one sentence for everybody; a screen reader reads this and no token. */
function verdict(racing, failures) {
  const whole = racing.filter((_, k) => !failures[k]);
  const same = new Set(whole.map(({ text }) => text)).size === 1;
  const first = whole.length && whole.reduce((a, b) => (a.times[0] <= b.times[0] ? a : b));
  const lead = first ? ` First token: ${first.contestant.title}, after ${seconds(first.times[0])}.` : "";
  if (whole.length < racing.length) return `${whole.length} of ${racing.length} answers are complete.${lead}`;
  if (whole.length === 1) return `The answer is complete.${lead}`;
  return `All ${whole.length} answers are complete, and ${same ? "the same" : "NOT the same"}.${lead}`;
}

async function tell(path, value) {
  const headers = { "Content-Type": "application/json" };
  const response = await fetch(path, { method: "POST", headers, body: JSON.stringify(value) });
  if (!response.ok) throw new Error(`${path}: status ${response.status}`);
  return response.json();
}
