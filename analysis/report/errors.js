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
  if (!error.made_here) return [{ side, name: "whole error", dash: "dash", frames: error.frames, values: error.total }];
  return Object.entries(PARTS).map(([part, [name, dash]]) => ({ side, name, dash, frames: error.frames, values: error[part] }));
}

function errorTrace({ side, name, dash, frames, values }) {
  const title = `${side.toUpperCase()}, ${name}`;
  return {
    type: "scatter", mode: values.length > 40 ? "lines" : "lines+markers", name: title, x: data.steps[frames], y: values,
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
