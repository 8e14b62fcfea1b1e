// The Tokenderby tab: six small line charts and a table of the newest figures. Every text is set as text, never as
// HTML. Locust's page is drawn by React in #root; ours stands after it and is shown while our tab is open.
"use strict";
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const WIDTH = 420, HEIGHT = 150, LEFT = 46, BOTTOM = 18, LEAST_S = 30, MOST_S = 120;

  const panel = document.createElement("section");
  panel.id = "tokenderby";
  panel.style.cssText = "display:none;box-sizing:border-box;max-width:100%;padding:8px min(24px,4vw) 32px;font:14px/1.4 Roboto,Helvetica,Arial,sans-serif";
  document.body.appendChild(panel);

  const isOpen = () => new URLSearchParams(location.search).get("tab") === "tokenderby";

  function element(tag, parent, text, style) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (style) made.style.cssText = style;
    parent.appendChild(made);
    return made;
  }

  function draw(tag, parent, attributes, text) {
    const made = document.createElementNS(SVG, tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    parent.appendChild(made);
    return made;
  }

  function shown(value) {
    if (value === null || value === undefined) return "–";
    if (value === "inf") return "never";
    return value >= 100 ? value.toFixed(0) : value >= 1 ? value.toFixed(1) : value.toFixed(2);
  }

  // The next of 1, 2, 5 x 10^k that is at least `value`: the top of an axis.
  function roundUp(value) {
    const power = 10 ** Math.floor(Math.log10(value));
    return [1, 2, 5, 10].map((step) => step * power).find((top) => top >= value * 0.9999);
  }

  // An axis for `values`: where a value stands between 0 (bottom) and 1 (top), and which values are labelled. Times
  // span decades between transports, so theirs is logarithmic, from 0.1 ms up.
  function axis(values, figure) {
    if (!figure.includes("_ms_")) {
      const top = roundUp(Math.max(...values, figure.endsWith("percent") ? 10 : 0.001));
      return { at: (v) => v / top, labels: [0, top / 2, top] };
    }
    const low = 0.1, decades = Math.max(1, Math.ceil(Math.log10(Math.max(...values, 1) / low)));
    const labels = Array.from({ length: decades + 1 }, (_, k) => low * 10 ** k);
    return { at: (v) => Math.log10(Math.max(v, low) / low) / decades, labels };
  }

  function label(value) {
    return value === 0 ? "0" : String(Number(value.toPrecision(3)));
  }

  function chart(parent, { figure, title }, data) {
    const box = element("figure", parent, undefined, "margin:0");
    element("figcaption", box, title, "font-weight:500;margin-bottom:2px");
    const svg = draw("svg", box, { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: "100%", role: "img", "data-figure": figure });
    draw("title", svg, {}, title);
    const lines = Object.entries(data.lines);
    const newest = Math.max(...lines.map(([, line]) => line.t[line.t.length - 1]));
    const oldest = Math.min(...lines.map(([, line]) => line.t[0]));
    const seconds = Math.min(MOST_S, Math.max(LEAST_S, newest - oldest));
    const finite = lines.flatMap(([, line]) => line[figure].filter((v, k) => typeof v === "number" && line.t[k] >= newest - seconds));
    const scale = axis(finite, figure);
    const x = (t) => LEFT + (WIDTH - LEFT - 6) * (1 - (newest - t) / seconds);
    const y = (v) => 6 + (HEIGHT - BOTTOM - 6) * (1 - (v === "inf" ? 1 : Math.min(1, scale.at(v))));
    for (const value of scale.labels) {
      draw("line", svg, { x1: LEFT, x2: WIDTH - 6, y1: y(value), y2: y(value), stroke: "currentColor", "stroke-opacity": 0.15 });
      draw("text", svg, { x: LEFT - 6, y: y(value) + 4, "text-anchor": "end", "font-size": 11, fill: "currentColor" }, label(value));
    }
    draw("text", svg, { x: LEFT, y: HEIGHT - 3, "font-size": 11, fill: "currentColor" }, `${seconds.toFixed(0)} s ago`);
    draw("text", svg, { x: WIDTH - 6, y: HEIGHT - 3, "text-anchor": "end", "font-size": 11, fill: "currentColor" }, "now");
    for (const [transport, line] of lines) {
      let path = "", down = false;
      line.t.forEach((t, k) => {
        const value = line[figure][k];
        if (t < newest - seconds || value === null) { down = false; return; }
        path += `${down ? "L" : "M"}${x(t).toFixed(1)} ${y(value).toFixed(1)}`;
        down = true;
      });
      draw("path", svg, { d: path, fill: "none", stroke: data.transports[transport].colour, "stroke-width": 2, "data-transport": transport });
    }
  }

  function table(data) {
    const wide = element("div", panel, undefined, "overflow-x:auto"); // the table scrolls, not the page
    wide.className = "wide";
    const made = element("table", wide, undefined, "border-collapse:collapse;margin:4px 0 16px;font-variant-numeric:tabular-nums");
    const head = element("tr", element("thead", made));
    const cell = "padding:4px 16px 4px 0;text-align:right;border-bottom:1px solid rgba(128,128,128,.35)";
    for (const title of ["transport", ...data.figures.map(({ title }) => title)]) element("th", head, title, `${cell};font-weight:500`);
    const body = element("tbody", made);
    for (const [transport, line] of Object.entries(data.lines)) {
      const row = element("tr", body);
      const name = element("td", row, undefined, `${cell};text-align:left`);
      element("span", name, "■ ", `color:${data.transports[transport].colour}`);
      element("span", name, data.transports[transport].title);
      for (const { figure } of data.figures) element("td", row, shown(line[figure][line.t.length - 1]), cell);
    }
  }

  function show(data) {
    const scrolled = panel.querySelector(".wide")?.scrollLeft ?? 0;
    panel.replaceChildren();
    if (!Object.values(data.lines).some((line) => line.t.length)) {
      element("p", panel, "Nothing yet: the figures come with the first second of a test.");
      return;
    }
    element("p", panel, "The last 10 seconds, by the messages that ended in them. A failed message counts as infinitely " +
      "late (“never”); " + `a p99 needs ${data.p99_needs} tokens. The run folder has every token.`, "margin:8px 0");
    if (data.finding) element("p", panel, `Found: ${data.finding}.`, "margin:8px 0;font-weight:500");
    table(data);
    panel.querySelector(".wide").scrollLeft = scrolled;
    const grid = element("div", panel, undefined, "display:grid;grid-template-columns:repeat(auto-fit,minmax(min(340px,100%),1fr));gap:16px 24px");
    for (const figure of data.figures) chart(grid, figure, data);
  }

  // Locust's page fills the window; with our tab open it takes only what it needs, and its colours are ours.
  function fit(open) {
    panel.style.display = open ? "block" : "none";
    const root = document.getElementById("root");
    const frame = root && root.firstElementChild;
    if (frame) frame.style.minHeight = open ? "0" : "";
    panel.style.color = getComputedStyle(document.querySelector("[role=tab]") || document.body).color;
  }

  async function refresh() {
    const open = isOpen() && document.querySelector("[role=tablist]") !== null;
    fit(open);
    if (!open) return;
    try {
      const response = await fetch("./tokenderby/live");
      if (response.ok) show(await response.json());
    } catch { /* the server is gone; Locust's own page says so */ }
  }

  setInterval(refresh, 1000);
})();
