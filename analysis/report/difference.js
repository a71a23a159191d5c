// Why do these two differ?

function drawDifference() {
  const [a, b] = SIDES.map(runOf);
  const names = Object.keys({ ...a.config, ...b.config }).filter((name) => a.config[name] !== b.config[name]);
  byId("verdict").replaceChildren(...verdict(a, b, names));
  byId("config-difference").replaceChildren(valueTable("Configuration that differs", a.config, b.config));
  byId("machine-difference").replaceChildren(valueTable("Machine that differs", a.machine, b.machine));
  byId("stage-difference").replaceChildren(stageTable(a, b));
  byId("result-difference").replaceChildren(resultTable(a, b));
  byId("pair-notes").replaceChildren(...SIDES.flatMap((side) => runOf(side).notes.map((note) => noteLine(side, note))));
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
  const all = (setting) => summary(setting, data.settings[setting].jobs.map((job) => data.runs[job]));
  const found = pairedDifference(all(first).byReplicate, all(second).byReplicate);
  if (!found || found.count < 2) return said("unpaired");
  const better = found.mean > 0 ? "better" : "worse";
  return said("paired", {
    networks: found.count, difference: difference(0, found.mean, 3), half: formatted(found.half, 3),
    verdict: said(found.p < LEVEL ? better : "within noise"),
  });
}

function sideHeadings(first, kind, ...more) {
  return [[first, ""], ["A", kind], ["B", kind], ...more];
}

function valueTable(title, a, b) {
  const names = Object.keys({ ...a, ...b }).filter((name) => a[name] !== b[name]);
  if (!names.length) return quiet("Nothing.");
  const cell = (value) => node("td", {}, breakable(value ? value : MISSING));
  const rows = names.map((name) => node("tr", {}, node("th", { scope: "row" }, knobName(name)), cell(a[name]), cell(b[name])));
  return scrollable(table(sideHeadings("value", ""), rows, "pairs"), title);
}

function stageTable(a, b) {
  const key = (value, span) => node("td", { class: "key", colspan: span, title: value }, value?.slice(0, 12) ?? MISSING);
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
