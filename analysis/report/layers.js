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

const MOST_SETTINGS = 40; // more columns take seconds to draw, and nobody reads them

// Those of the table, from its top; A's and B's in any case.
function shownSettings() {
  const chosen = SIDES.map((side) => runOf(side).setting);
  const places = sorted(view.rows).map((row) => row.place);
  const kept = new Set([...places.filter((place) => chosen.includes(place)), ...places].slice(0, MOST_SETTINGS));
  return places.filter((place) => kept.has(place)).sort((one, two) => one - two);
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
  const [drawn, all] = [labels.length, view.rows.length];
  byId("layer-count").textContent = drawn < all ? `${drawn} of ${all} settings, from the top of the table; the filter chooses others.` : "";
  if (!drawn) {
    Plotly.purge(target);
    return undefined;
  }
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
