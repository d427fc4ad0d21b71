// The charts. Each is a function from the chosen option to traces and axes; all are drawn again when colours, runs or widths change.

const DASHES = ["solid", "dot", "dash", "dashdot"];
const CONFIG = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };
const coarse = matchMedia("(pointer: coarse)").matches; // a finger scrolls the page, it does not zoom

// Plotly reads names as a kind of HTML, so what begins one is written as an entity.
const escaped = (text) => text.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
const plain = (text) => escaped(shortened(text, 48));
const percent = (rate) => `${(100 * rate).toFixed(1)} %`;
const told = ([rate, lower, upper]) => percent(rate) + (lower === null ? "" : ` (${(100 * lower).toFixed(1)}–${(100 * upper).toFixed(1)})`);
const shown = (place) => !hidden.has(place);
const opacity = (place) => (strong === null || strong === place ? 1 : 0.13);

function error(values) {
  return {
    type: "data", symmetric: false, thickness: 1.4, width: 0,
    array: values.map(([rate, , upper]) => 100 * ((upper ?? rate) - rate)),
    arrayminus: values.map(([rate, lower]) => 100 * (rate - (lower ?? rate))),
  };
}

function line(place, colours) {
  return { color: colours[place % 8], width: 2, dash: DASHES[Math.floor(place / 8) % 4] };
}

function band(x, values, tint, place) {
  return {
    x: [...x, ...x.toReversed()], y: [...values.map((v) => 100 * v[2]), ...values.map((v) => 100 * v[1]).toReversed()],
    fill: "toself", fillcolor: tint, opacity: 0.13 * opacity(place), line: { width: 0 }, mode: "lines", hoverinfo: "skip", type: "scatter",
  };
}

function plane(_, colours, page) {
  const traces = [];
  for (const { run, points } of data.plane.filter((own) => shown(own.run))) {
    const text = points.map((p) => `${plain(data.runs[run])}${p.step === null ? "" : `<br>step ${p.step}`}<br>harmful ${told(p.harmful)}<br>over-refusal ${told(p.refused)}`);
    const common = { type: "scatter", hoverinfo: "text", opacity: opacity(run) };
    if (points.length > 1) {
      // Many paths on each other are a tangle: they step back behind the marks, unless one is pointed at.
      const faint = data.plane.length - hidden.size > 6 && strong !== run ? 0.28 : 1;
      traces.push({ ...common, opacity: faint * opacity(run), mode: "lines+markers", x: points.map((p) => 100 * p.harmful[0]), y: points.map((p) => 100 * p.refused[0]), text, line: { ...line(run, colours), width: 1.4 }, marker: { size: 5, color: colours[run % 8] } });
    }
    points.forEach((p, n) => {
      if (!p.chosen) return;
      const bars = { color: colours[run % 8] };
      traces.push({ ...common, cliponaxis: false, mode: "markers+text", x: [100 * p.harmful[0]], y: [100 * p.refused[0]], text: [String(run + 1)], hovertext: [text[n]], error_x: { ...error([p.harmful]), ...bars }, error_y: { ...error([p.refused]), ...bars }, marker: { size: 19, color: colours[run % 8], line: { width: 1.5, color: page } }, textfont: { size: 11, weight: 700, color: page } });
    });
  }
  return { traces, x: "harmful answers to harmful prompts, %", y: "benign prompts refused, %" };
}

function curves(choice, colours) {
  const traces = [];
  const drawn = data.curves.runs.filter((own) => shown(own.run));
  for (const { run, steps, rates } of drawn) {
    const rated = steps.map((step, n) => [step, rates[choice][n]]).filter(([, rate]) => rate);
    const x = rated.map(([step]) => step), values = rated.map(([, rate]) => rate);
    // Many bands on each other are a fog: they are drawn for a few runs, or for the one that is pointed at.
    if (drawn.length <= 6 || strong === run) traces.push(band(x, values, colours[run % 8], run));
    traces.push({ type: "scatter", mode: "lines+markers", x, y: values.map((v) => 100 * v[0]), opacity: opacity(run), line: line(run, colours), marker: { size: 6 }, hoverinfo: "text", text: rated.map(([step, rate]) => `${plain(data.runs[run])}<br>step ${step}: ${told(rate)}`) });
  }
  return { traces, x: "step", y: `${data.curves.metrics[choice]}, %` };
}

function losses(choice, colours) {
  const [term, title] = Object.entries(data.losses.terms)[choice];
  const traces = data.losses.runs.filter((own) => shown(own.run) && own[term]).map((own) => ({
    type: "scatter", mode: "lines", x: own[term].map(([step]) => step), y: own[term].map(([, value]) => value), opacity: opacity(own.run), line: { ...line(own.run, colours), width: 1.6 }, hoverinfo: "text", text: own[term].map(([step, value]) => `${plain(data.runs[own.run])}<br>step ${step}: ${value}`),
  }));
  return { traces, x: "step", y: title, free: true };
}

function efficiency(choice, colours) {
  const traces = data.efficiency.lines.map(({ points }, n) => {
    const own = points[choice];
    const joined = new Set(own.map(([rows]) => rows)).size === own.length && own.length > 1;
    return { type: "scatter", mode: joined ? "lines+markers" : "markers", x: own.map(([rows]) => rows), y: own.map(([, rate]) => 100 * rate[0]), error_y: { ...error(own.map(([, rate]) => rate)), color: colours[n % 8] }, line: line(n, colours), marker: { size: 8 }, hoverinfo: "text", text: own.map(([, , run, text]) => `${plain(run)}<br>${escaped(text)}`) };
  });
  const rows = [...new Set(data.efficiency.lines.flatMap((l) => l.points[choice].map(([n]) => n)))];
  return { traces, x: "unsafe rows in training", y: "harmful answers, %", ticks: rows };
}

function attacked(_, colours) {
  const drawn = data.attacked.runs.filter((own) => shown(own.run));
  const step = 0.7 / Math.max(1, drawn.length);
  const traces = drawn.map(({ run, points }, n) => ({
    type: "scatter", mode: "markers", cliponaxis: false, x: points.map(([, rate]) => 100 * rate[0]), y: points.map(([attack]) => attack + step * (n - (drawn.length - 1) / 2)),
    opacity: opacity(run), error_x: { ...error(points.map(([, rate]) => rate)), color: colours[run % 8] }, marker: { size: 7, color: colours[run % 8] },
    hoverinfo: "text", text: points.map(([attack, rate]) => `${plain(data.runs[run])}<br>${plain(data.attacked.attacks[attack])}: ${told(rate)}`),
  }));
  return { traces, x: "success (ASR), %", y: "", names: data.attacked.attacks, height: 110 + data.attacked.attacks.length * Math.max(24, 9 * drawn.length) };
}

const CHARTS = { plane, curves, losses, efficiency, attacked };

function layout({ x, y, free, ticks, names }) {
  const ink = colour("ink"), soft = colour("soft"), grid = colour("line");
  const axis = { gridcolor: grid, zerolinecolor: grid, linecolor: grid, tickfont: { color: soft }, automargin: true, fixedrange: coarse };
  return {
    xaxis: { ...axis, title: { text: x, font: { size: 13, color: soft } }, rangemode: "tozero", ...(ticks ? { tickvals: ticks } : {}) },
    yaxis: { ...axis, title: { text: y, font: { size: 13, color: soft } }, ...(free || names ? {} : { rangemode: "tozero" }), ...(names ? { tickvals: names.map((_, n) => n), ticktext: names.map(plain), range: [names.length - 0.5, -0.5], zeroline: false } : {}) },
    font: { family: "system-ui, sans-serif", size: 12.5, color: ink }, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
    margin: { l: 50, r: 14, t: 26, b: 44 }, showlegend: false, hovermode: "closest", dragmode: coarse ? false : "zoom",
    modebar: { bgcolor: "rgba(0,0,0,0)", color: grid, activecolor: soft },
    hoverlabel: { bgcolor: colour("card"), bordercolor: grid, font: { color: ink }, align: "left" },
  };
}

function draw(id) {
  const figure = at(id);
  const choice = Number(figure.querySelector("select")?.value ?? 0);
  const colours = Array.from({ length: 8 }, (_, n) => colour(`c${n}`));
  const made = CHARTS[id](choice, colours, colour("page"));
  const plot = figure.querySelector(".plot");
  if (made.height) plot.style.height = `${made.height}px`;
  return Plotly.react(plot, made.traces, layout(made), CONFIG);
}

// A chart is drawn when it comes near the window, so that a page of many opens at once.
const figures = Object.keys(CHARTS).filter((id) => at(id));
const drawn = new Set();
const watcher = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || drawn.has(target.id)) continue;
    drawn.add(target.id);
    draw(target.id);
  }
}, { rootMargin: "500px" });
function redraw() { return Promise.all([...drawn].map(draw)); }

function legend(figure, places) {
  for (const place of places) {
    const button = make("button");
    button.type = "button";
    button.dataset.run = place;
    button.setAttribute("aria-pressed", "true");
    button.append(badge(place), make("span", "", shortened(data.runs[place], 48)));
    button.title = data.runs[place];
    button.addEventListener("click", () => {
      if (!hidden.delete(place)) hidden.add(place);
      for (const other of document.querySelectorAll(`.legend button[data-run="${place}"]`)) other.setAttribute("aria-pressed", shown(place));
      redraw();
    });
    for (const [event, target] of [["pointerenter", place], ["pointerleave", null], ["focus", place], ["blur", null]]) {
      button.addEventListener(event, () => {
        if (coarse || strong === target) return;
        strong = target;
        draw(figure.id);
      });
    }
    figure.querySelector(".legend").append(button);
  }
}

function lineKey({ name }, n) {
  const key = make("span", "key-of");
  key.append(make("i", `stroke c${n % 8} dash${Math.floor(n / 8) % 4}`), make("span", "", shortened(name, 60)));
  return key;
}

for (const id of figures) {
  watcher.observe(at(id));
  const figure = at(id), own = id === "plane" ? data.plane : data[id].runs;
  if (own) legend(figure, own.map((entry) => entry.run));
  else figure.querySelector(".legend").append(...data.efficiency.lines.map(lineKey));
  figure.querySelector("select")?.addEventListener("change", () => draw(id));
}

// Paper is white and narrower than most windows.
let before = "";
addEventListener("beforeprint", () => {
  before = root.style.colorScheme;
  root.style.colorScheme = "light";
  figures.forEach((id) => drawn.add(id));
  redraw();
  for (const id of drawn) Plotly.relayout(at(id).querySelector(".plot"), { width: 680 });
});
addEventListener("afterprint", () => {
  root.style.colorScheme = before;
  for (const id of drawn) Plotly.relayout(at(id).querySelector(".plot"), { width: null, autosize: true });
  redraw();
});
