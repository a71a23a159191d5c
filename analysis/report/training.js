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
