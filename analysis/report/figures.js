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
