// What the other files share: the data, the state, elements and numbers. All of them are one script in the page.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
const measures = new Map(data.measures.map((item) => [item.name, item]));
const MISSING = "–";
const SIDES = ["a", "b"];
// `limit` is the budget in percent of `cost`, null without one. `looks` holds what the legend was asked, by series.
const state = {
  group: 0, a: 0, b: 0, side: "b", cost: "macs_percent", limit: null, query: "", log: true,
  looks: new Map(), open: new Set(), sort: { column: "psnr", down: true },
};

// Texts from files are set as text, never as HTML.
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

function badge(side) {
  return node("span", { class: `badge ${side}` }, side.toUpperCase());
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

const numbers = new Map(); // formats by their digits: to make one takes longer than to use it

function inDigits(value, digits) {
  if (!numbers.has(digits)) {
    numbers.set(digits, new Intl.NumberFormat("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
  }
  return numbers.get(digits).format(value);
}

function formatted(value, digits) {
  if (!isNumber(value)) return MISSING;
  const text = digits === null
    ? (value === 0 ? "0" : value.toExponential(1)).replace(/e([+-])(\d)$/, "e$10$2")
    : inDigits(value, digits);
  return text.replaceAll("-", "−");
}

function difference(from, to, digits) {
  if (!isNumber(from) || !isNumber(to)) return MISSING;
  const text = formatted(to - from, digits);
  if (!/[1-9]/.test(text)) return "0";
  return to > from ? `+${text}` : text;
}

function count(number, noun) {
  return `${number} ${noun}${number === 1 ? "" : "s"}`;
}

const inGroup = (items) => items.filter((item) => item.group === state.group);

function runOf(side) {
  return data.runs[state[side]];
}
