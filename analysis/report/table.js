// The table: a row per setting, folded out to its runs.

const VERDICTS = {
  best: "the highest mean within the budget", "within noise": "the difference to the best may be chance",
  worse: "worse than the best, beyond noise", "not tested": "fewer than two dense networks in common with the best",
  "over budget": "costs more than the budget", "better in common": "better than the best over the dense networks that both have",
};

function knobCell(runs, place) {
  const values = [...new Set(runs.map((run) => run.cells[place]))];
  if (values.length > 3) return `${values.length} values`;
  return values.map((value) => value ?? MISSING).join(", ");
}

// A knob that is the same in all runs of the group has no column: it tells other groups apart.
function hides(place) {
  if (measures.has(data.columns[place].name)) return undefined;
  const values = new Set(data.runs.filter((run) => run.group === state.group).map((run) => run.cells[place]));
  return data.groups.length > 1 && values.size < 2 ? "" : undefined;
}

function cells(values, runs) {
  return data.columns.map(({ name }, place) => {
    const measure = measures.get(name);
    if (measure) return node("td", { class: "num" }, formatted(values[name], measure.digits));
    return node("td", { hidden: view.hidden[place] }, knobCell(runs, place));
  });
}

function pickCell(side, name, pressed, run) {
  const label = `${side.toUpperCase()}: ${name}`;
  const button = node("button", { type: "button", class: `pick-${side}`, "aria-label": label, "aria-pressed": String(pressed), "data-run": run }, side.toUpperCase());
  return node("td", { class: "pick" }, button);
}

// Of a setting the run that shares its replicate and seeds with the other side's, so that the two compare.
function runFor(row, side) {
  const other = runOf(side === "a" ? "b" : "a") ?? row.runs[0];
  const alike = row.runs.filter((run) => run.replicate === other.replicate);
  return data.runs.indexOf(alike.find((run) => run.order === other.order) ?? alike[0] ?? row.runs[0]);
}

function chosenMarks(chosen) {
  return SIDES.filter((side) => chosen[side]).map((side) => `is-${side}`).join(" ");
}

function againstCell({ verdict, difference: found, p }) {
  const title = `${VERDICTS[verdict]}${p === null ? "" : `; p ${p < 0.001 ? "below 0.001" : formatted(p, 3)} by Holm’s correction`}`;
  const apart = found ? node("span", { class: "unit" }, ` ${difference(0, found.mean, 2)} dB`) : "";
  return node("td", { class: "against", title }, node("span", { class: `verdict ${verdict.replaceAll(" ", "-")}` }, verdict), apart);
}

function settingRow(row) {
  const open = state.open.has(row.place);
  const fold = node("button", { type: "button", class: "fold", "aria-expanded": String(open), "data-setting": row.place }, breakable(row.label, /(?<=[,/.])(?=\S)|(?<= )/));
  const has = Object.fromEntries(SIDES.map((side) => [side, row.runs.includes(runOf(side))]));
  const picks = SIDES.map((side) => pickCell(side, row.label, has[side], runFor(row, side)));
  const values = cells(row.values, row.runs);
  const quality = data.columns.findIndex(({ name }) => name === "psnr");
  values[quality].textContent = withHalf(row.psnr, measures.get("psnr").digits);
  values[quality].title = row.behind;
  const name = node("th", { scope: "row", class: "job" }, fold, node("span", { class: "unit" }, ` ${count(row.runs.length, "run")}`));
  return node("tr", { "data-setting": row.place, class: `setting ${chosenMarks(has)} ${row.against.verdict.replaceAll(" ", "-")}` }, ...picks, name, againstCell(row.against), ...values);
}

function runRow(run) {
  const has = Object.fromEntries(SIDES.map((side) => [side, run === runOf(side)]));
  const place = data.runs.indexOf(run);
  const picks = SIDES.map((side) => pickCell(side, run.job, has[side], place));
  return node("tr", { "data-run": place, class: `run ${chosenMarks(has)}` }, ...picks, node("th", { scope: "row", class: "job" }, breakable(run.job)), node("td", {}), ...cells(run.values, [run]));
}

function sortValue(row, column) {
  const place = data.columns.findIndex((item) => item.name === column);
  if (place < 0) return row.label;
  return measures.has(column) ? row.values[column] : row.runs[0].cells[place];
}

function compareValues(first, second) {
  if (isNumber(first) && isNumber(second)) return first - second;
  return String(first).localeCompare(String(second), "en", { numeric: true });
}

// What costs too much stands last, and so does what is not known.
function sorted(rows) {
  const { column, down } = state.sort;
  const last = (row) => 2 * Number(row.against.verdict === "over budget") + Number(sortValue(row, column) === null);
  return [...rows].sort((first, second) => last(first) - last(second)
    || (down ? -1 : 1) * compareValues(sortValue(first, column), sortValue(second, column)));
}

function fillTable() {
  view.hidden = data.columns.map((column, place) => hides(place));
  const rows = sorted(view.rows).flatMap((row) => [settingRow(row), ...(state.open.has(row.place) ? row.runs.map(runRow) : [])]);
  byId("run-table").tBodies[0].replaceChildren(...rows);
  for (const heading of document.querySelectorAll("#run-table th[aria-sort]")) {
    heading.hidden = view.hidden[data.columns.findIndex(({ name }) => name === heading.dataset.column)] === "";
    const order = state.sort.down ? "descending" : "ascending";
    heading.setAttribute("aria-sort", heading.dataset.column === state.sort.column ? order : "none");
  }
}

function sortBy(column) {
  const best = data.columns.find((item) => item.name === column)?.best;
  const down = state.sort.column === column ? !state.sort.down : best === "high";
  state.sort = { column, down };
  fillTable();
  writeLink();
}

// A row is made again when it is pressed; the one that stands in its place keeps the keyboard's focus.
function keepFocus(change) {
  const { className, dataset } = document.activeElement ?? {};
  change();
  const same = [...document.querySelectorAll("#run-table tbody button")]
    .find((button) => button.className === className && (className === "fold" ? button.dataset.setting === dataset.setting : button.dataset.run === dataset.run));
  same?.focus({ preventScroll: true });
}

function fold(place) {
  if (!state.open.delete(place)) state.open.add(place);
  keepFocus(fillTable);
}

function pressInTable({ target }) {
  const button = target.closest("button");
  if (!button) return;
  const heading = button.closest("th[aria-sort]");
  if (heading) sortBy(heading.dataset.column);
  else if (button.className === "fold") fold(Number(button.dataset.setting));
  else keepFocus(() => choose(button.className.at(-1), button.dataset.run));
}
