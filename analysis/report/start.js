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

// The two runs compared

function choose(side, number) {
  state[side] = Number(number);
  fillTable();
  drawQuality();
  showPair();
  writeLink();
}

function showPair() {
  for (const side of SIDES) {
    byId(`run-${side}`).value = state[side];
    byId(`run-${side}`).title = runOf(side).job;
  }
  drawDifference();
  drawTraining();
  drawErrors();
  drawFrames();
}

// The next best and the best, where the link does not say which two.
function startingPair() {
  const [best, next] = new Set([...byQuality(view.within), ...byQuality(view.rows)]);
  state.b = data.runs.indexOf((best?.runs ?? inGroup(data.runs))[0]);
  state.a = next ? runFor(next, "a") : data.runs.indexOf(best?.runs[1] ?? runOf("b"));
}

// Filter, budget and cost: table, chart and layers follow

function readQuery() {
  const found = readFilter(byId("filter").value);
  const wrong = found.error !== undefined;
  byId("filter").setAttribute("aria-invalid", String(wrong));
  byId("filter-error").hidden = !wrong;
  if (!wrong) {
    filter = found;
    return;
  }
  const text = byId("filter").value;
  const marked = node("code", {}, text.slice(0, found.start), node("mark", {}, text.slice(found.start, found.end)), text.slice(found.end));
  byId("filter-error").replaceChildren(marked, node("br"), `${found.error}. What is shown is of the last filter without an error.`);
}

function readBudget() {
  const { value, validity } = byId("budget");
  state.limit = value === "" || !validity.valid ? null : Number(value);
  byId("budget-cost").textContent = `% of the ${COSTS[state.cost]}`;
}

function updateView() {
  readQuery();
  readBudget();
  makeView();
}

function drawView() {
  const runs = view.rows.reduce((sum, row) => sum + row.runs.length, 0);
  byId("shown").textContent = `${view.rows.length} of ${count(inGroup(data.settings).length, "setting")}, ${runs} of ${count(inGroup(data.runs).length, "run")}`;
  byId("answer").replaceChildren(...answer());
  fillTable();
  fillLegend();
  drawQuality();
  drawLayers();
  byId("layer-table").replaceChildren();
  if (byId("layer-values").open) fillLayerTable();
}

function change() {
  updateView();
  drawView();
  writeLink();
}

// Groups of runs that can be compared: one is shown at a time

function showGroup(number) {
  state.group = Number(number);
  byId("group").value = state.group;
  for (const side of SIDES) {
    const options = data.runs.flatMap((run, place) => (run.group === state.group ? [node("option", { value: place }, run.job)] : []));
    byId(`run-${side}`).replaceChildren(...options);
  }
  byId("steps").textContent = data.groups[state.group].steps;
  byId("timing-notes").replaceChildren(...data.groups[state.group].notes.map((note) => quiet(`Note: ${note}.`)));
}

function chooseGroup() {
  state.looks.clear();
  showGroup(byId("group").value);
  updateView();
  startingPair();
  drawView();
  showPair();
  writeLink();
}

function showLink() {
  const chosen = readLink();
  updateView();
  startingPair();
  Object.assign(state, chosen);
  drawView();
  showPair();
}

function on(id, event, action) {
  byId(id).addEventListener(event, action);
}

function listen() {
  for (const side of SIDES) on(`run-${side}`, "change", ({ target }) => choose(side, target.value));
  on("run-table", "click", pressInTable);
  on("filter", "input", change);
  on("budget", "input", change);
  on("swap", "click", () => {
    [state.a, state.b] = [state.b, state.a];
    choose("a", state.a);
  });
  document.querySelectorAll('input[name="cost"]').forEach((input) => input.addEventListener("change", () => {
    state.cost = input.value;
    change();
  }));
  document.querySelectorAll('input[name="side"]').forEach((input) => input.addEventListener("change", () => { state.side = input.value; }));
  on("log", "change", () => {
    state.log = byId("log").checked;
    drawTraining();
  });
  on("group", "change", chooseGroup);
  on("csv", "click", downloadCsv);
  on("png", "click", downloadPng);
  on("copy-link", "click", copyLink);
  on("layer-values", "toggle", fillLayerTable);
  on("place", "change", drawFrames);
  for (const side of ["left", "right"]) on(side, "change", drawSlider);
  on("divider", "input", moveDivider);
  document.querySelectorAll(".copy").forEach((button) => button.addEventListener("click", () => copyCommand(button)));
  on("theme", "click", () => {
    document.documentElement.dataset.theme = isDark() ? "light" : "dark";
    showTheme();
  });
  document.addEventListener("click", followSection);
  prefersDark.addEventListener("change", showTheme);
  addEventListener("resize", drawLayers);
  addEventListener("hashchange", () => { if (isState(location.hash)) showLink(); });
}

byId("group-choice").hidden = data.groups.length === 1;
byId("group").append(...data.groups.map((group, number) => node("option", { value: number }, group.name)));
listen();
moveDivider();
nameTheme();
showLink();
