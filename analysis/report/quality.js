// The chart: quality against cost, its front, the budget, and a legend that switches series.

const MOST_SERIES = 10; // in colour, if the legend is not asked for others

function pointText(row) {
  const { runs, values } = row;
  const shown = runs.slice(0, 6).map((run) => `${lines(run.job)}: ${formatted(run.values.psnr, 2)}`);
  return [
    `<b>${lines(row.label)}</b>`,
    `PSNR ${withHalf(row.psnr)} dB (${row.behind})`,
    `MACs kept ${formatted(values.macs_percent, 1)} %, parameters kept ${formatted(values.parameters_percent, 1)} %`,
    `time kept ${formatted(values.time_percent, 1)} %: ${formatted(values.latency_ms, 2)} of ${formatted(values.latency_ms_dense, 2)} ms per frame`,
    `against the best: ${row.against.verdict}`,
    ...shown,
    ...(runs.length > shown.length ? [`and ${runs.length - shown.length} more`] : []),
  ].join("<br>");
}

function shownSeries() {
  const names = new Set(view.rows.map((row) => row.series));
  return data.series.filter((style) => names.has(style.name));
}

// "on" in colour, "grey" among the many that are named on hover, "off" not drawn. The best have the colours.
function lookOf(name) {
  return state.looks.get(name) ?? (leading().has(name) ? "on" : "grey");
}

let leaders = { view: null, names: new Set() };

function leading() {
  if (leaders.view !== view) {
    const best = byQuality(view.rows).map((row) => row.series);
    leaders = { view, names: new Set([...new Set(best)].slice(0, MOST_SERIES)) };
  }
  return leaders.names;
}

function seriesTrace(style) {
  const rows = view.rows.filter((row) => row.series === style.name).sort((one, two) => two.values[state.cost] - one.values[state.cost]);
  const grey = lookOf(style.name) === "grey";
  const paint = grey ? colour("grey") : style.colour;
  return {
    type: "scatter", mode: grey ? "markers" : "lines+markers", name: plotText(style.name),
    visible: rows.length > 0 && lookOf(style.name) !== "off",
    x: rows.map((row) => row.values[state.cost]), y: rows.map((row) => row.psnr.mean),
    error_y: { type: "data", array: rows.map((row) => row.psnr.half ?? 0), thickness: 1.5, width: 4,
      visible: !grey && rows.some((row) => row.psnr.half !== null) },
    line: { color: paint, dash: style.dash, width: 2 },
    marker: { color: paint, symbol: grey ? "circle" : style.symbol, size: grey ? 6 : 9 },
    customdata: rows.map((row) => row.place), text: rows.map(pointText), hovertemplate: "%{text}<extra></extra>",
  };
}

function frontTrace() {
  const rows = view.front;
  return {
    type: "scatter", mode: "lines", name: "front", hoverinfo: "skip", line: { color: colour("front"), width: 9 },
    x: rows.map((row) => row.values[state.cost]), y: rows.map((row) => row.psnr.mean),
  };
}

function denseTrace() {
  const references = inGroup(data.references).filter((row) => isNumber(row.psnr_dense));
  return {
    type: "scatter", mode: "markers", name: "dense",
    x: references.map(() => 100),
    y: references.map((row) => row.psnr_dense),
    marker: { symbol: "star", size: 14, color: colour("ink") },
    text: references.map((row) => `<b>dense network</b><br>${lines(row.name)}<br>PSNR ${formatted(row.psnr_dense, 2)} dB, ${formatted(row.latency_ms_dense, 2)} ms per frame`),
    hovertemplate: "%{text}<extra></extra>",
  };
}

// A and B stand at the point of their setting, or at their own values where the filter leaves that out.
function chosenTrace() {
  const values = SIDES.map((side) => (view.rows.find((row) => row.runs.includes(runOf(side))) ?? runOf(side)).values);
  return {
    type: "scatter", mode: "markers+text", hoverinfo: "skip", x: values.map((of) => of[state.cost]), y: values.map((of) => of.psnr),
    text: ["<b>A</b>", "<b>B</b>"], textposition: ["top left", "top right"], textfont: { size: 13, color: SIDES.map(colour) },
    marker: { symbol: "circle-open", size: 17, line: { width: 2 }, color: SIDES.map(colour) }, cliponaxis: false,
  };
}

function bestTrace() {
  const rows = view.best ? [view.best] : [];
  return {
    type: "scatter", mode: "markers", name: "best", hoverinfo: "skip",
    x: rows.map((row) => row.values[state.cost]), y: rows.map((row) => row.psnr.mean),
    marker: { symbol: "diamond-open", size: 24, line: { width: 2.5 }, color: colour("good") }, cliponaxis: false,
  };
}

// The baseline is drawn where that leaves the curves at least half of the height; the legend gives its value anyway.
function baselineFits(value) {
  const runs = inGroup(data.runs).map((run) => run.values.psnr);
  const all = [...runs, ...inGroup(data.references).map((row) => row.psnr_dense).filter(isNumber)];
  const [low, high] = [Math.min(...all), Math.max(...all)];
  return value > low - (high - low) && value < high + (high - low);
}

function straightLine(position, line) {
  return { type: "line", layer: "below", line, ...position };
}

function guideLines() {
  const baselines = inGroup(data.references)
    .map((row) => row.psnr_baseline)
    .filter(baselineFits)
    .map((value) => straightLine({ xref: "paper", x0: 0, x1: 1, y0: value, y1: value }, { color: colour("quiet"), width: 1.5, dash: "dash" }));
  if (state.limit === null) return baselines;
  const budget = { yref: "paper", y0: 0, y1: 1, x0: state.limit, x1: state.limit };
  return [...baselines, straightLine(budget, { color: colour("good"), width: 2, dash: "dot" })];
}

// As many digits as tell two ticks apart.
function tickDigits() {
  const ends = view.rows.flatMap((row) => [row.psnr.mean - (row.psnr.half ?? 0), row.psnr.mean + (row.psnr.half ?? 0)]).filter(isNumber);
  const all = [...ends, ...inGroup(data.references).map((row) => row.psnr_dense).filter(isNumber)];
  const apart = (Math.max(...all) - Math.min(...all)) / 8;
  return apart > 0 ? Math.min(6, Math.max(2, Math.ceil(-Math.log10(apart)))) : 2;
}

function drawQuality() {
  const title = `${COSTS[state.cost]} kept (% of the dense network’s)`;
  const traces = [frontTrace(), ...shownSeries().map(seriesTrace), denseTrace(), bestTrace(), chosenTrace()];
  const format = layout({
    paper_bgcolor: colour("surface"), // so that a downloaded picture can be read
    xaxis: axis(title), yaxis: axis("PSNR (dB)", { tickformat: `.${tickDigits()}f` }), shapes: guideLines(), uirevision: `${state.group} ${state.cost}`,
  });
  return draw(byId("quality-plot"), traces, format).then(choosePoints);
}

// A click chooses the setting for one side, and the next click chooses for the other.
function choosePoints(plot) {
  plot.removeAllListeners("plotly_click");
  plot.on("plotly_click", ({ points }) => {
    const row = view.rows.find(({ place }) => place === points[0].customdata);
    if (!row) return;
    const side = state.side;
    state.side = side === "a" ? "b" : "a";
    document.querySelector(`input[name="side"][value="${state.side}"]`).checked = true;
    choose(side, runFor(row, side));
  });
}

function legendButton(style) {
  const look = lookOf(style.name);
  const button = node("button", { type: "button", "aria-pressed": String(look === "on"), class: look }, swatch(style), style.name);
  button.addEventListener("click", () => {
    state.looks.set(style.name, lookOf(style.name) === "on" ? "off" : "on");
    button.className = lookOf(style.name);
    button.setAttribute("aria-pressed", String(lookOf(style.name) === "on"));
    drawQuality();
    writeLink();
  });
  return button;
}

function fillLegend() {
  const styles = shownSeries();
  const grey = styles.filter((style) => lookOf(style.name) === "grey");
  const [first, more] = [styles.filter((style) => !grey.includes(style)), grey.map(legendButton)];
  const others = more.length
    ? [node("details", {}, node("summary", {}, `${more.length} more series, in grey`), node("div", { class: "legend" }, ...more))]
    : [];
  byId("series").replaceChildren(...first.map(legendButton), ...referenceItems(), ...others);
}

function referenceItems() {
  const items = inGroup(data.references).flatMap((row) => {
    const fits = baselineFits(row.psnr_baseline);
    return [
      node("span", { class: "item" }, swatch({ colour: "currentColor", symbol: "star" }), isNumber(row.psnr_dense) ? `dense ${formatted(row.psnr_dense, 2)} dB` : "dense: what the others are compared with"),
      node("span", { class: "item" }, fits ? swatch({ colour: "var(--quiet)", dash: "dash" }) : "", `${row.baseline} ${formatted(row.psnr_baseline, 2)} dB${fits ? "" : ", out of view"}`),
    ];
  });
  const mark = (paint, dash, name) => node("span", { class: "item" }, swatch({ colour: paint, dash }), name);
  return [...items, mark("var(--front)", "solid", "front"), mark("var(--good)", "dot", "budget; ◇ best")];
}
