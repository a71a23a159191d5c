"use strict";
(() => {
  const byId = (id) => document.getElementById(id);
  const data = JSON.parse(byId("data").textContent);
  const measures = new Map(data.measures.map((item) => [item.name, item]));
  const MISSING = "–";
  const SIDES = ["a", "b"];
  const state = { group: 0, a: 0, b: 0, cost: "macs_percent", log: true, hidden: new Set(), sort: { column: "", down: false } };

  // Elements. Texts from files are set as text, never as HTML.

  function node(tag, attributes = {}, ...children) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== undefined) element.setAttribute(name, value);
    }
    element.append(...children);
    return element;
  }

  // A text that may break after some signs: those between the words of a job's name, or of a knob's.
  function breakable(text, after = /(?<=[,/])(?=\S)/) {
    const span = node("span");
    for (const part of String(text).split(after)) span.append(part, node("wbr"));
    return span;
  }

  function knobName(name) {
    return breakable(name, /(?<=[._])/);
  }

  function table(heading, rows, style = "") {
    const head = node("tr", {}, ...heading.map(([label, kind]) => node("th", { scope: "col", class: kind }, label)));
    return node("table", { class: style }, node("thead", {}, head), node("tbody", {}, ...rows));
  }

  function scrollable(content, label) {
    return node("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": label }, content);
  }

  function quiet(text) {
    return node("p", { class: "quiet" }, text);
  }

  // Numbers

  function formatted(value, digits) {
    if (value === null || value === undefined) return MISSING;
    const text = digits === null
      ? (value === 0 ? "0" : value.toExponential(1)).replace(/e([+-])(\d)$/, "e$10$2")
      : value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits });
    return text.replaceAll("-", "−");
  }

  function difference(from, to, digits) {
    if (from === null || to === null || from === undefined || to === undefined) return MISSING;
    const text = formatted(to - from, digits);
    if (!/[1-9]/.test(text)) return "0";
    return to > from ? `+${text}` : text;
  }

  function count(number, noun) {
    return `${number} ${noun}${number === 1 ? "" : "s"}`;
  }

  // Groups of runs that can be compared: one is shown at a time

  const inGroup = (items) => items.filter((item) => item.group === state.group);

  function chooseGroup(number) {
    state.group = Number(number);
    state.hidden.clear();
    for (const side of SIDES) {
      const options = data.runs.flatMap((run, place) => (run.group === state.group ? [node("option", { value: place }, run.job)] : []));
      byId(`run-${side}`).replaceChildren(...options);
    }
    for (const row of document.querySelectorAll("#setting-table tbody tr")) row.hidden = Number(row.dataset.group) !== state.group;
    const shown = data.series.filter((style) => inGroup(data.settings).some((setting) => setting.series === style.name));
    byId("series").replaceChildren(...shown.map(legendButton), ...referenceItems());
    byId("timing-notes").replaceChildren(...data.groups[state.group].notes.map((note) => quiet(`Note: ${note}.`)));
    byId("layer-table").replaceChildren();
    if (byId("layer-values").open) fillLayerTable();
    [state.a, state.b] = startingPair();
    filterRows();
    drawLayers();
    choose("a", state.a);
  }

  // The table of runs

  function sortValue(run, column) {
    const place = data.columns.findIndex((item) => item.name === column);
    return place < 0 ? run.job : run.cells[place];
  }

  function compareValues(first, second) {
    if (typeof first === "number" && typeof second === "number") return first - second;
    return String(first).localeCompare(String(second), "en", { numeric: true });
  }

  function sortRows(column, down) {
    const rows = [...document.querySelectorAll("#run-table tbody tr")];
    const value = (row) => sortValue(data.runs[row.dataset.run], column);
    const missing = (row) => Number(value(row) === null);
    const order = (first, second) => {
      if (missing(first) || missing(second)) return missing(first) - missing(second);
      return (down ? -1 : 1) * compareValues(value(first), value(second));
    };
    byId("run-table").tBodies[0].append(...rows.sort(order));
  }

  function sortBy(heading) {
    const column = heading.dataset.column;
    const best = data.columns.find((item) => item.name === column)?.best;
    const down = state.sort.column === column ? !state.sort.down : best === "high";
    state.sort = { column, down };
    sortRows(column, down);
    for (const other of document.querySelectorAll("#run-table th[aria-sort]")) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
  }

  function knob(run, name) {
    for (const key of [name, `${name}.name`]) {
      const value = run.config[key] ?? data.common[key];
      if (value !== undefined && value !== null) return value;
    }
    return undefined;
  }

  function equal(value, wanted) {
    return value === wanted || (value !== "" && wanted !== "" && Number(value) === Number(wanted));
  }

  // A word of the filter as a test of a run: NAME=VALUE, the value of a knob, or a part of the job's name.
  function wordTest(word) {
    const [name, wanted] = word.split(/=(.*)/s);
    if (wanted !== undefined && data.runs.some((run) => knob(run, name) !== undefined)) {
      const exact = (run) => knob(run, name) !== undefined && equal(knob(run, name), wanted);
      return data.runs.some(exact) ? exact : (run) => knob(run, name)?.toLowerCase().includes(wanted);
    }
    const isValue = (run) => data.knobs.some((item) => knob(run, item)?.toLowerCase() === word);
    if (!/^[\d.]+$/.test(word) && data.runs.some(isValue)) return isValue;
    return (run) => run.job.toLowerCase().includes(word);
  }

  function filterRows() {
    const tests = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean).map(wordTest);
    let shown = 0;
    for (const row of document.querySelectorAll("#run-table tbody tr")) {
      const run = data.runs[row.dataset.run];
      row.hidden = run.group !== state.group || !tests.every((test) => test(run));
      shown += Number(!row.hidden);
    }
    byId("shown").textContent = `${shown} of ${count(inGroup(data.runs).length, "run")}`;
    byId("none").hidden = shown > 0;
  }

  // The two runs compared

  function runOf(side) {
    return data.runs[state[side]];
  }

  function choose(side, number) {
    state[side] = Number(number);
    showChoice();
    drawDifference();
    drawQuality();
    drawTraining();
    drawErrors();
    drawFrames();
  }

  function showChoice() {
    for (const row of document.querySelectorAll("#run-table tbody tr")) {
      for (const side of SIDES) {
        const chosen = Number(row.dataset.run) === state[side];
        row.classList.toggle(`is-${side}`, chosen);
        row.querySelector(`input[name="${side}"]`).checked = chosen;
      }
    }
    for (const side of SIDES) {
      byId(`run-${side}`).value = state[side];
      byId(`run-${side}`).title = runOf(side).job;
    }
  }

  function startingPair() {
    const places = [...data.runs.keys()].filter((place) => data.runs[place].group === state.group);
    const other = places.find((place) => data.runs[place].setting !== data.runs[places[0]].setting);
    return [places[0], other ?? places[Math.min(1, places.length - 1)]];
  }

  // Why do these two differ?

  function drawDifference() {
    const [a, b] = SIDES.map(runOf);
    const names = Object.keys({ ...a.config, ...b.config }).filter((name) => a.config[name] !== b.config[name]);
    byId("verdict").replaceChildren(...verdict(a, b, names));
    byId("config-difference").replaceChildren(configTable(a, b, names));
    byId("stage-difference").replaceChildren(stageTable(a, b));
    byId("result-difference").replaceChildren(resultTable(a, b));
    byId("pair-notes").replaceChildren(...SIDES.flatMap((side) => runOf(side).notes.map((note) => noteLine(side, note))));
  }

  function badge(side) {
    return node("span", { class: `badge ${side}` }, side.toUpperCase());
  }

  function noteLine(side, note) {
    return node("p", { class: "quiet" }, badge(side), ` Note: ${note}`);
  }

  // A sentence that the terminal says too, with its blanks filled.
  function said(name, values = {}) {
    return data.words[name].replace(/\{(\w+)\}/g, (_, blank) => values[blank]);
  }

  function verdict(a, b, names) {
    if (a === b) return [node("p", {}, `${said("same")} Choose two in the table, or above.`)];
    const stages = Object.keys(a.stages);
    const parting = stages.find((stage) => a.stages[stage] !== b.stages[stage]);
    const counts = said("counts", {
      values: said(names.length === 1 ? "value" : "values", { number: names.length }), shared: stages.filter((stage) => a.stages[stage] === b.stages[stage]).length,
      stages: count(stages.length, said("stage")), parting: parting ? said("parting", { stage: parting }) : "",
    });
    return [counts, a.setting === b.setting ? said("seeds") : pairLine(a.setting, b.setting)].map((line) => node("p", {}, line));
  }

  function pairLine(first, second) {
    const found = data.pairs.find(([one, two]) => one === Math.min(first, second) && two === Math.max(first, second));
    if (!found) return said("unpaired");
    const [, , networks, mean, half, judged] = found;
    const turned = { better: "worse", worse: "better" }[judged];
    const verdict = said(first < second ? judged : turned ?? judged);
    return said("paired", { networks, difference: difference(0, first < second ? mean : -mean, 3), half: formatted(half, 3), verdict });
  }

  function sideHeadings(first, kind, ...more) {
    return [[first, ""], ["A", kind], ["B", kind], ...more];
  }

  function configTable(a, b, names) {
    if (!names.length) return quiet("Nothing.");
    const cell = (value) => node("td", {}, breakable(value ? value : MISSING));
    const rows = names.map((name) => node("tr", {}, node("th", { scope: "row" }, knobName(name)), cell(a.config[name]), cell(b.config[name])));
    return scrollable(table(sideHeadings("value", ""), rows, "pairs"), "Configuration that differs");
  }

  function stageTable(a, b) {
    const key = (value, span) => node("td", { class: "key", colspan: span }, value ?? MISSING);
    const row = (stage) => {
      const [one, two] = [a.stages[stage], b.stages[stage]];
      const keys = one === two ? [key(one, 2)] : [key(one), key(two)];
      return node("tr", {}, node("th", { scope: "row" }, stage), node("td", {}, one === two ? "yes" : "no"), ...keys);
    };
    const stages = Object.keys({ ...a.stages, ...b.stages });
    const heading = [["stage", ""], ["shared", ""], ["A", ""], ["B", ""]];
    return scrollable(table(heading, stages.map(row)), "Stages");
  }

  function resultTable(a, b) {
    const rows = data.measures
      .filter(({ name }) => (a.values[name] ?? b.values[name] ?? null) !== null)
      .map(({ name, label, unit, digits, compared }) => node(
        "tr", {},
        node("th", { scope: "row" }, label, node("span", { class: "unit" }, unit ? ` ${unit}` : "")),
        ...[a, b].map((run) => node("td", { class: "num" }, formatted(run.values[name], digits))),
        node("td", { class: "num" }, compared ? difference(a.values[name], b.values[name], digits) : MISSING),
      ));
    return scrollable(table(sideHeadings("measure", "num", ["B − A", "num"]), rows), "Results side by side");
  }

  // Figures

  const FONT = getComputedStyle(document.body).fontFamily;

  function colour(name) {
    const probe = node("span", { style: `color: var(--${name})` });
    document.body.append(probe);
    const value = getComputedStyle(probe).color;
    probe.remove();
    return value;
  }

  function plotText(text) {
    return String(text).replace(/[&<>]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;" })[sign]);
  }

  // A name in lines short enough for the label under the pointer.
  function lines(text, width = 36) {
    const broken = [""];
    for (const part of String(text).split(/(?<=[,/ ])/)) {
      if (broken.at(-1) && broken.at(-1).length + part.length > width) broken.push("");
      broken[broken.length - 1] += part;
    }
    return broken.map(plotText).join("<br>");
  }

  function axis(title, more = {}) {
    const line = colour("line");
    return {
      title: { text: title, standoff: 8, font: { size: 13 } }, gridcolor: line, linecolor: line, tickcolor: line, zeroline: false,
      automargin: true, ...more,
    };
  }

  function layout(more) {
    return {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false, autosize: true,
      font: { family: FONT, size: 12, color: colour("ink") },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("quiet"), activecolor: colour("ink") },
      margin: { l: 56, r: 16, t: 12, b: 48 }, hovermode: "closest",
      hoverlabel: { align: "left", bgcolor: colour("surface"), bordercolor: colour("quiet"), font: { family: FONT, color: colour("ink"), size: 12 } },
      ...more,
    };
  }

  function draw(target, traces, format) {
    // Named one by one: plotly's own choice has a button that sends the figure to a service.
    const zoom = format.xaxis.fixedrange ? [] : [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d"]];
    const config = { displaylogo: false, responsive: true, modeBarButtons: [["toImage"], ...zoom] };
    return Plotly.react(target, traces, format, config);
  }

  // Quality and cost

  function pointText(setting) {
    const jobs = setting.jobs.map((job) => data.runs[job]);
    const half = setting.half_width === null ? "" : ` ± ${formatted(setting.half_width, 2)}`;
    const shown = jobs.slice(0, 6).map((run) => `${lines(run.job)}: ${formatted(run.values.psnr, 2)}`);
    return [
      `<b>${lines(setting.label)}</b>`,
      `PSNR ${formatted(setting.psnr, 2)}${half} dB (${setting.behind})`,
      `MACs kept ${formatted(setting.macs_percent, 1)} %`,
      `time kept ${formatted(setting.time_percent, 1)} %: ${formatted(setting.latency_ms, 2)} of ${formatted(setting.latency_ms_dense, 2)} ms per frame`,
      ...shown,
      ...(jobs.length > shown.length ? [`and ${jobs.length - shown.length} more`] : []),
    ].join("<br>");
  }

  function seriesTrace(style) {
    const points = inGroup(data.settings).filter((setting) => setting.series === style.name);
    return {
      type: "scatter", mode: "lines+markers", name: plotText(style.name),
      visible: !state.hidden.has(style.name),
      x: points.map((setting) => setting[state.cost]), y: points.map((setting) => setting.psnr),
      error_y: { type: "data", array: points.map((setting) => setting.half_width ?? 0), thickness: 1.5, width: 4,
        visible: points.some((setting) => setting.half_width !== null) },
      line: { color: style.colour, dash: style.dash, width: 2 },
      marker: { color: style.colour, symbol: style.symbol, size: 9 },
      text: points.map(pointText), hovertemplate: "%{text}<extra></extra>",
    };
  }

  function denseTrace() {
    const references = inGroup(data.references);
    return {
      type: "scatter", mode: "markers", name: "dense",
      x: references.map(() => 100),
      y: references.map((row) => row.psnr_dense),
      marker: { symbol: "star", size: 14, color: colour("ink") },
      text: references.map((row) => `<b>dense network</b><br>${lines(row.name)}<br>PSNR ${formatted(row.psnr_dense, 2)} dB, ${formatted(row.latency_ms_dense, 2)} ms per frame`),
      hovertemplate: "%{text}<extra></extra>",
    };
  }

  function chosenTrace() {
    return {
      type: "scatter", mode: "markers+text", hoverinfo: "skip",
      x: SIDES.map((side) => runOf(side).values[state.cost]), y: SIDES.map((side) => runOf(side).values.psnr),
      text: ["<b>A</b>", "<b>B</b>"], textposition: ["top left", "top right"], textfont: { size: 13, color: SIDES.map(colour) },
      marker: { symbol: "circle-open", size: 17, line: { width: 2 }, color: SIDES.map(colour) }, cliponaxis: false,
    };
  }

  // The baseline is drawn where that leaves the curves at least half of the height; the legend gives its value anyway.
  function baselineFits(value) {
    const values = inGroup(data.settings).flatMap(({ psnr, half_width: half }) => [psnr - half, psnr + half]);
    const all = [...values, ...inGroup(data.references).map((row) => row.psnr_dense)];
    const [low, high] = [Math.min(...all), Math.max(...all)];
    return value > low - (high - low) && value < high + (high - low);
  }

  function baselineLines() {
    return inGroup(data.references)
      .map((row) => row.psnr_baseline)
      .filter(baselineFits)
      .map((value) => ({
        type: "line", xref: "paper", x0: 0, x1: 1, y0: value, y1: value, layer: "below",
        line: { color: colour("quiet"), width: 1.5, dash: "dash" },
      }));
  }

  function drawQuality() {
    const title = state.cost === "time_percent" ? "time kept (% of the dense network’s, measured in turns)" : "MACs kept (% of the dense network)";
    const traces = [...data.series.map(seriesTrace), denseTrace(), chosenTrace()];
    const format = layout({ xaxis: axis(title), yaxis: axis("PSNR (dB)", { tickformat: ".2f" }), shapes: baselineLines(), uirevision: `${state.group} ${state.cost}` });
    return draw(byId("quality-plot"), traces, format);
  }

  const MARKS = {
    circle: "M22 7a5 5 0 1 1-10 0a5 5 0 1 1 10 0z", square: "M12.5 2.5h9v9h-9z", diamond: "M17 1l6 6l-6 6l-6-6z",
    "triangle-up": "M17 1.5l5.5 10h-11z", "triangle-down": "M17 12.5l5.5-10h-11z",
    cross: "M15 2h4v3h3v4h-3v3h-4v-3h-3v-4h3z",
    star: "M17 0l1.8 5h5l-4 3.2l1.5 5l-4.3-3l-4.3 3l1.5-5l-4-3.2h5z",
  };
  const STROKES = { solid: "none", dash: "6 4", dot: "2 3", dashdot: "7 3 2 3" };

  function swatch({ colour: paint, symbol, dash }) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const add = (name, attributes) => {
      const part = document.createElementNS(svg.namespaceURI, name);
      for (const [key, value] of Object.entries(attributes)) part.setAttribute(key, value);
      svg.append(part);
    };
    for (const [key, value] of Object.entries({ width: 34, height: 14, "aria-hidden": true })) svg.setAttribute(key, value);
    if (dash) add("line", { x1: 0, x2: 34, y1: 7, y2: 7, stroke: paint, "stroke-width": 2, "stroke-dasharray": STROKES[dash] });
    if (symbol) add("path", { d: MARKS[symbol], fill: paint });
    return svg;
  }

  function legendButton(style) {
    const button = node("button", { type: "button", "aria-pressed": "true" }, swatch(style), style.name);
    button.addEventListener("click", () => {
      if (!state.hidden.delete(style.name)) state.hidden.add(style.name);
      button.setAttribute("aria-pressed", String(!state.hidden.has(style.name)));
      drawQuality();
    });
    return button;
  }

  function referenceItems() {
    return inGroup(data.references).flatMap((row) => {
      const fits = baselineFits(row.psnr_baseline);
      return [
        node("span", { class: "item" }, swatch({ colour: "currentColor", symbol: "star" }), `dense ${formatted(row.psnr_dense, 2)} dB`),
        node("span", { class: "item" }, fits ? swatch({ colour: "var(--quiet)", dash: "dash" }) : "", `${row.baseline} ${formatted(row.psnr_baseline, 2)} dB${fits ? "" : ", out of view"}`),
      ];
    });
  }

  // Training

  function trainingPanels() {
    const names = new Map();
    for (const run of SIDES.map(runOf)) {
      for (const [stage, losses] of Object.entries(run.curves)) {
        for (const loss of Object.keys(losses)) names.set(`${stage}/${loss}`, [stage, loss]);
      }
    }
    const stages = [...new Set([...names.values()].map(([stage]) => stage))];
    return [...names.values()].sort((one, two) => stages.indexOf(one[0]) - stages.indexOf(two[0]));
  }

  function trainingTrace(side, place) {
    const curve = data.curves[place];
    const name = side.toUpperCase();
    return {
      type: "scatter", mode: curve.values.length > 40 ? "lines" : "lines+markers", name,
      x: data.steps[curve.steps], y: curve.values,
      line: { color: colour(side), width: 2, dash: side === "b" ? "dash" : "solid" },
      marker: { color: colour(side), size: 5, symbol: side === "b" ? "square" : "circle" },
      hovertemplate: `${name}, step %{x}: %{y:.4g}<extra></extra>`,
    };
  }

  // Ticks of a logarithmic axis at round values: powers of ten, or their parts where the values span little.
  function logTicks(values) {
    const positive = values.filter((value) => value > 0);
    if (!positive.length) return {};
    const [low, high] = [Math.min(...positive), Math.max(...positive)];
    const powers = Array.from({ length: 25 }, (_, place) => place - 16);
    const within = (parts) => powers
      .flatMap((power) => parts.map((part) => Number(`${part}e${power}`)))
      .filter((value) => value >= low * 0.99 && value <= high * 1.01);
    const choices = [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 5, 7], [1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9]];
    const ticks = choices.map(within).find((found) => found.length >= 3) ?? [low, high];
    const every = Math.ceil(ticks.length / 7);
    const shown = ticks.filter((_, place) => place % every === 0);
    return { tickvals: shown, ticktext: shown.map((value) => String(Number(value.toPrecision(3)))) };
  }

  function drawPanel(panel, [stage, loss]) {
    const places = SIDES.map((side) => runOf(side).curves[stage]?.[loss]);
    const same = places[0] !== undefined && places[0] === places[1] && state.a !== state.b;
    panel.querySelector("h3").textContent = `${stage}: ${loss} loss${same ? " (the same curve)" : ""}`;
    const traces = SIDES.flatMap((side, number) => (places[number] === undefined ? [] : [trainingTrace(side, places[number])]));
    const scale = state.log ? { type: "log", ...logTicks(traces.flatMap((trace) => trace.y)) } : { rangemode: "tozero", nticks: 6 };
    const format = layout({
      xaxis: axis("step", { rangemode: "tozero" }), yaxis: axis("", { ...scale, automargin: false }),
      margin: { l: 60, r: 12, t: 8, b: 44 },
    });
    draw(panel.querySelector(".plot"), traces, format);
  }

  // As many panels as there are items, each drawn by `drawOne(panel, item)`.
  function fillPanels(target, items, drawOne) {
    while (target.children.length > items.length) {
      Plotly.purge(target.lastElementChild.querySelector(".plot"));
      target.lastElementChild.remove();
    }
    while (target.children.length < items.length) {
      target.append(node("div", { class: "panel" }, node("h3"), node("div", { class: "plot" })));
    }
    items.forEach((item, number) => drawOne(target.children[number], item));
  }

  function drawTraining() {
    fillPanels(byId("training-plots"), trainingPanels(), drawPanel);
    byId("training-legend").replaceChildren(...SIDES.map((side) => node(
      "span", { class: "item" }, badge(side), swatch({ colour: `var(--${side})`, dash: side === "b" ? "dash" : "solid" }), breakable(runOf(side).job),
    )));
  }

  // Error over time

  const POINTS = { after_cut: "right after the cut", finetuned: "after fine-tuning" };
  const PARTS = { made_here: ["made here", "solid"], propagated: ["propagated", "dot"] };

  function errorPanels() {
    const branches = new Set(SIDES.flatMap((side) => Object.values(runOf(side).hidden_error).flatMap(Object.keys)));
    return [...branches].flatMap((branch) => Object.keys(POINTS).map((point) => [point, branch]));
  }

  // The parts of the error; the whole of it for a network whose steps cannot be run alone.
  function shownErrors(side, point, branch) {
    const error = runOf(side).hidden_error[point]?.[branch];
    if (!error) return [];
    if (!error.made_here) return [{ side, name: "whole error", dash: "dash", values: error.total }];
    return Object.entries(PARTS).map(([part, [name, dash]]) => ({ side, name, dash, values: error[part] }));
  }

  function errorTrace({ side, name, dash, values }) {
    const title = `${side.toUpperCase()}, ${name}`;
    return {
      type: "scatter", mode: values.length > 40 ? "lines" : "lines+markers", name: title, x: values.map((_, frame) => frame), y: values,
      line: { color: colour(side), width: 2, dash }, marker: { color: colour(side), size: 5, symbol: side === "b" ? "square" : "circle" },
      hovertemplate: `${title}, frame %{x}: %{y:.3f}<extra></extra>`,
    };
  }

  function drawErrorPanel(panel, [point, branch]) {
    const errors = (where) => SIDES.flatMap((side) => shownErrors(side, where, branch));
    panel.querySelector("h3").textContent = `${branch}, ${POINTS[point]}`;
    // Both points of a branch have one scale, so that they compare.
    const most = Math.max(...Object.keys(POINTS).flatMap(errors).flatMap(({ values }) => values), 1e-3);
    const format = layout({
      xaxis: axis("frame", { rangemode: "tozero", nticks: 8 }), yaxis: axis("", { range: [0, 1.08 * most], nticks: 6, automargin: false }),
      margin: { l: 60, r: 12, t: 8, b: 44 },
    });
    draw(panel.querySelector(".plot"), errors(point).map(errorTrace), format);
  }

  function drawErrors() {
    const panels = errorPanels();
    byId("no-errors").hidden = panels.length > 0;
    fillPanels(byId("error-plots"), panels, drawErrorPanel);
    const parts = Object.values(PARTS).map(([name, dash]) => node("span", { class: "item" }, swatch({ colour: "currentColor", dash }), name));
    const sides = SIDES.map((side) => node("span", { class: "item" }, badge(side), swatch({ colour: `var(--${side})`, symbol: side === "b" ? "square" : "circle" }), breakable(runOf(side).job)));
    byId("error-legend").replaceChildren(...sides, ...parts);
  }

  // Layers

  function keptUnits(kept) {
    return new Set(kept).size === 1 ? String(kept[0]) : kept.join(", ");
  }

  function cellLines(layer, cell, label) {
    const [cut, kept, total] = cell;
    return [
      layer.layer, label, `part ${layer.part}, kind ${layer.kind}`,
      `kept ${keptUnits(kept)} of ${total}${kept.length > 1 ? " (by run)" : ""}, cut ${formatted(100 * cut, 1)} %`,
    ];
  }

  function partLines() {
    return shownLayers().flatMap((layer, row, all) => (row && layer.part !== all[row - 1].part
      ? [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: row - 0.5, y1: row - 0.5, line: { color: colour("surface"), width: 4 } }]
      : []));
  }

  function longest(texts) {
    return Math.max(...texts.map((text) => text.length));
  }

  // Where the heatmap's parts go, in pixels. Names of settings stand upright where their words do not fit abreast.
  function layerSizes(names, labels, available) {
    const small = available < 600 || names.length > 60;
    const letter = small ? 5.6 : 6.5;
    const left = letter * longest(names) + 20;
    const right = 84;
    const width = Math.max(available, left + right + (small ? 18 : 26) * labels.length);
    const cell = (width - left - right) / labels.length;
    const words = labels.map((label) => label.split(", "));
    const abreast = longest(words.flat()) * 6 + 8 < cell;
    const top = abreast ? 17 * Math.max(...words.map((parts) => parts.length)) + 20 : letter * longest(labels) + 24;
    const row = names.length > 60 ? 13 : 22;
    return { left, right, top, width, cell, row, abreast, font: small ? 10 : 12 };
  }

  function layerTrace(labels, numbers) {
    const pick = (get) => shownLayers().map((layer) => shownSettings().map((place, column) => (layer.cells[place] ? get(layer.cells[place], layer, column) : null)));
    return {
      type: "heatmap", colorscale: "Cividis", zmin: 0, zmax: 1, xgap: 1, ygap: 1, hoverongaps: false,
      z: pick(([cut]) => cut), text: pick(([cut]) => `${Math.round(100 * cut)}`).map((row) => row.map((text) => text ?? "")),
      texttemplate: numbers ? "%{text}" : "", textfont: { size: 11 },
      customdata: pick((cell, layer, column) => cellLines(layer, cell, labels[column]).map((line) => lines(line)).join("<br>")),
      hovertemplate: "%{customdata}<extra></extra>",
      colorbar: {
        title: { text: "cut", side: "top" }, thickness: 12, lenmode: "pixels", len: 180, x: 1, xpad: 14, y: 1,
        yanchor: "top", outlinewidth: 0, tickformat: ".0%",
      },
    };
  }

  function shownSettings() {
    return [...data.settings.keys()].filter((place) => data.settings[place].group === state.group);
  }

  // Other networks than the group's have other layers.
  function shownLayers() {
    const places = shownSettings();
    return data.layers.filter((layer) => places.some((place) => layer.cells[place]));
  }

  function drawLayers() {
    const target = byId("layer-plot");
    const labels = shownSettings().map((place) => data.settings[place].label);
    const names = shownLayers().map((layer) => layer.layer);
    const size = layerSizes(names, labels, target.parentElement.clientWidth);
    const tick = {
      showgrid: false, zeroline: false, showline: false, ticks: "", ticklabelstandoff: 6, fixedrange: true,
      tickfont: { size: size.font },
    };
    const format = layout({
      width: size.width, height: size.top + 16 + size.row * Math.max(names.length, 9), autosize: false,
      margin: { l: size.left, r: size.right, t: size.top, b: 16 }, shapes: partLines(),
      xaxis: {
        ...tick, side: "top", tickfont: { size: size.abreast ? 11 : size.font }, tickvals: labels.map((_, place) => place), tickangle: size.abreast ? 0 : -90,
        ticktext: labels.map((label) => (size.abreast ? plotText(label).replaceAll(", ", "<br>") : plotText(label))),
      },
      yaxis: { ...tick, autorange: "reversed", tickvals: names.map((_, place) => place), ticktext: names.map(plotText) },
    });
    return draw(target, [layerTrace(labels, size.cell >= 26 && size.row > 16)], format).then(tellCells);
  }

  // The label under the pointer may lie outside a narrow window; the line below the figure does not.
  function tellCells(plot) {
    plot.removeAllListeners("plotly_hover");
    plot.on("plotly_hover", ({ points: [{ pointIndex: [row, column] }] }) => {
      const [layer, place] = [shownLayers()[row], shownSettings()[column]];
      byId("layer-cell").textContent = cellLines(layer, layer.cells[place], data.settings[place].label).join(" · ");
    });
  }

  function fillLayerTable() {
    const target = byId("layer-table");
    if (target.rows.length) return;
    const kept = (cell) => (cell ? `${keptUnits(cell[1])} / ${cell[2]}` : MISSING);
    const places = shownSettings();
    const rows = shownLayers().map((layer) => node(
      "tr", {}, node("th", { scope: "row" }, layer.layer), node("td", {}, layer.part), node("td", {}, layer.kind),
      ...places.map((place) => node("td", { class: "num" }, kept(layer.cells[place]))),
    ));
    const heading = [["layer", ""], ["part", ""], ["kind", ""], ...places.map((place) => [data.settings[place].label, "num"])];
    target.append(...table(heading, rows).children);
  }

  // Frames

  const CROPS = { lr: "low resolution", bicubic: "bicubic", input: "input", dense: "dense", pruned: "pruned", truth: "truth" };

  // What can be shown at a place: A's crops, and those of B that are other pictures.
  function pictures(place) {
    const found = [];
    for (const side of SIDES) {
      for (const [kind, crop] of Object.entries(runOf(side).crops[place] ?? {})) {
        const known = found.find((item) => item.kind === kind && item.key === crop.key);
        if (known) known.sides.push(side);
        else found.push({ id: `${side}/${kind}`, kind, key: crop.key, psnr: crop.psnr, sides: [side] });
      }
    }
    const order = Object.keys(CROPS);
    return found.sort((one, two) => order.indexOf(one.kind) - order.indexOf(two.kind)).map((item) => ({
      ...item, name: item.sides.length === 2 ? CROPS[item.kind] : `${CROPS[item.kind]} (${item.sides[0].toUpperCase()})`,
    }));
  }

  function fillSelect(select, options, wanted) {
    const kept = options.some(([value]) => value === select.value) ? select.value : wanted;
    select.replaceChildren(...options.map(([value, label]) => node("option", { value }, label)));
    select.value = options.some(([value]) => value === kept) ? kept : options[0]?.[0];
  }

  function drawFrames() {
    const places = [...new Set(SIDES.flatMap((side) => Object.keys(runOf(side).crops)))];
    byId("no-frames").hidden = places.length > 0;
    byId("frame-view").hidden = !places.length;
    if (!places.length) return;
    fillSelect(byId("place"), places.map((place) => [place, place]), places[0]);
    const options = pictures(byId("place").value).map(({ id, name }) => [id, name]);
    fillSelect(byId("left"), options, "a/bicubic");
    fillSelect(byId("right"), options, "a/pruned");
    drawSlider();
  }

  function drawSlider() {
    const place = byId("place").value;
    const found = pictures(place);
    for (const side of ["left", "right"]) {
      const item = found.find(({ id }) => id === byId(side).value) ?? found[0];
      byId(`image-${side}`).src = data.pictures[item.key];
      byId(`image-${side}`).alt = `${place}, ${item.name}`;
      byId(`tag-${side}`).textContent = typeof item.psnr === "number" ? `${item.name} ${formatted(item.psnr, 2)} dB` : item.name;
    }
    const where = runOf("a").places[place] ?? runOf("b").places[place];
    byId("place-caption").textContent = where ? `${place}: ${where}` : place;
    byId("crop-values").replaceChildren(cropTable(found));
  }

  function cropTable(found) {
    const shown = (value) => (value === "same" ? "is the truth" : formatted(value, 2));
    const rows = found.map(({ name, psnr, kind }) => node(
      "tr", {}, node("th", { scope: "row" }, name), node("td", { class: "num" }, kind === "truth" ? MISSING : shown(psnr)),
    ));
    const unit = node("span", { class: "unit" }, "dB");
    return scrollable(table([["picture", ""], [node("span", {}, "PSNR ", unit), "num"]], rows), "PSNR of the crops");
  }

  function moveDivider() {
    byId("slider").style.setProperty("--at", `${byId("divider").value}%`);
    byId("divider").setAttribute("aria-valuetext", `${Math.round(byId("divider").value)} % left picture`);
  }

  // Failures

  async function copyCommand(button) {
    const code = button.parentElement.querySelector("code");
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.firstChild.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.firstChild.textContent = "Selected";
    }
  }

  // Light and dark

  const prefersDark = matchMedia("(prefers-color-scheme: dark)");

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : prefersDark.matches;
  }

  function nameTheme() {
    byId("theme").textContent = isDark() ? "Light" : "Dark";
  }

  function showTheme() {
    nameTheme();
    drawQuality();
    drawTraining();
    drawErrors();
    drawLayers();
  }

  function start() {
    for (const side of SIDES) {
      const select = byId(`run-${side}`);
      select.addEventListener("change", () => choose(side, select.value));
    }
    byId("run-table").addEventListener("change", ({ target }) => choose(target.name, target.value));
    byId("run-table").addEventListener("click", ({ target }) => {
      const heading = target.closest("th[aria-sort]");
      if (heading) sortBy(heading);
    });
    byId("filter").addEventListener("input", filterRows);
    byId("swap").addEventListener("click", () => {
      [state.a, state.b] = [state.b, state.a];
      choose("a", state.a);
    });
    document.querySelectorAll('input[name="cost"]').forEach((input) => input.addEventListener("change", () => {
      state.cost = input.value;
      drawQuality();
    }));
    byId("log").addEventListener("change", () => {
      state.log = byId("log").checked;
      drawTraining();
    });
    byId("group-choice").hidden = data.groups.length === 1;
    byId("group").append(...data.groups.map((group, number) => node("option", { value: number }, group.name)));
    byId("group").addEventListener("change", () => chooseGroup(byId("group").value));
    byId("layer-values").addEventListener("toggle", fillLayerTable);
    byId("place").addEventListener("change", drawFrames);
    for (const side of ["left", "right"]) byId(side).addEventListener("change", drawSlider);
    byId("divider").addEventListener("input", moveDivider);
    document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", () => copyCommand(button)));
    byId("theme").addEventListener("click", () => {
      document.documentElement.dataset.theme = isDark() ? "light" : "dark";
      showTheme();
    });
    prefersDark.addEventListener("change", showTheme);
    addEventListener("resize", drawLayers);
    moveDivider();
    nameTheme();
    chooseGroup(0);
  }

  start();
})();
