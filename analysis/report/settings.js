// Settings as rows: means over their runs, which is best within the budget, and the front.

const COSTS = { macs_percent: "MACs", time_percent: "time", parameters_percent: "parameters" };

// The same run found twice counts once; runs of one dense network are averaged, since they share its luck.
function summary(place, runs) {
  const distinct = [...new Map(runs.map((run) => [run.stages.evaluate, run])).values()];
  const means = (key) => {
    const found = new Map();
    for (const run of distinct) found.set(key(run), [...(found.get(key(run)) ?? []), run.values.psnr]);
    return new Map([...found].map(([name, values]) => [name, mean(values)]));
  };
  const psnr = interval([...means((run) => run.stages.pretrain).values()]);
  const values = Object.fromEntries(data.measures.map(({ name }) => {
    const known = runs.map((run) => run.values[name]).filter(isNumber);
    return [name, known.length ? mean(known) : null];
  }));
  const networks = psnr.count === 1 ? "one dense network" : count(psnr.count, "dense network");
  return {
    ...data.settings[place], place, runs, psnr, byReplicate: means((run) => run.replicate),
    values: { ...values, psnr: psnr.mean },
    behind: `${networks}, ${count(new Set(distinct.map((run) => run.plan)).size, "plan")} and ${count(distinct.length, "run")}`,
  };
}

// Against the best of those within the budget; p is corrected by the number of these rows.
function judge(rows) {
  const within = rows.filter((row) => state.limit === null || row.values[state.cost] <= state.limit + 1e-9);
  const best = within.reduce((one, two) => (one && one.values.psnr >= two.values.psnr ? one : two), null);
  const others = within.filter((row) => row !== best);
  const differences = others.map((row) => pairedDifference(best.byReplicate, row.byReplicate));
  const corrected = holm(differences.map((found) => found?.p ?? null));
  const words = (place) => {
    const p = corrected[place];
    if (p === null) return "not tested";
    if (!(p < LEVEL)) return "within noise";
    return differences[place].mean < 0 ? "worse" : "better in common"; // where not all replicates are in common
  };
  for (const row of rows) row.against = { verdict: row === best ? "best" : "over budget", difference: null, p: null };
  others.forEach((row, place) => { row.against = { verdict: words(place), difference: differences[place], p: corrected[place] }; });
  return { best, within };
}

// The rows that no other beats: none costs as little and has a higher PSNR; from cheap to dear.
function frontOf(rows) {
  const cost = (row) => row.values[state.cost];
  let highest = -Infinity;
  return rows
    .filter((row) => isNumber(cost(row)))
    .sort((one, two) => cost(one) - cost(two) || two.values.psnr - one.values.psnr)
    .filter((row) => row.values.psnr > highest && ((highest = row.values.psnr), true));
}

let filter = readFilter("");
let view = { rows: [], best: null, within: [], front: [] };

// What table, chart and layers show: the settings of the group that the filter lets through.
function makeView() {
  const rows = inGroup(data.settings)
    .map(({ number, jobs }) => [number, jobs.map((job) => data.runs[job]).filter(filter.ofRun)])
    .filter(([, runs]) => runs.length)
    .map(([number, runs]) => summary(number, runs))
    .filter(filter.ofSetting);
  view = { rows, ...judge(rows), front: frontOf(rows) };
}

function byQuality(rows) {
  return [...rows].sort((one, two) => two.values.psnr - one.values.psnr);
}

function wordsOf(rows, most = 4) {
  const shown = byQuality(rows).slice(0, most).map((row) => row.label).join("; ");
  return rows.length > most ? `${shown}; and ${rows.length - most} more` : shown;
}

function withHalf({ mean: middle, half }, digits = 2) {
  if (half === null) return formatted(middle, digits);
  const more = half > 0 && half < 0.5 * 10 ** -digits ? 1 : 0; // "± 0.00" would say nothing
  return `${formatted(middle, digits + more)} ± ${formatted(half, digits + more)}`;
}

// The answer in sentences.
function answer() {
  const { best, within, rows } = view;
  const budget = state.limit === null ? "Best without a budget" : `Best at no more than ${state.limit} % of the dense network’s ${COSTS[state.cost]}`;
  if (!rows.length) return [node("p", {}, "No setting matches the filter.")];
  if (!best) {
    const least = Math.min(...rows.map((row) => row.values[state.cost]));
    return [node("p", {}, `No setting costs so little: the cheapest keeps ${formatted(least, 1)} % of the ${COSTS[state.cost]}.`)];
  }
  const kept = (cost) => `${formatted(best.values[cost], 1)} % of the ${COSTS[cost]}`;
  const first = node(
    "p", { class: "best" }, `${budget}: `, node("strong", {}, best.label),
    `, ${withHalf(best.psnr)} dB at ${kept(state.cost)} (${best.behind}).`,
  );
  return [first, quiet(noiseLine(within.filter((row) => row !== best)))];
}

function noiseLine(others) {
  const of = (verdict) => others.filter((row) => row.against.verdict === verdict);
  const [noise, unknown, tested] = [of("within noise"), of("not tested"), others.filter((row) => row.against.p !== null)];
  if (!others.length) return "No other setting is within the budget and the filter.";
  const parts = [];
  if (tested.length) {
    parts.push(noise.length ? `Within noise of it: ${wordsOf(noise)}.` : "Every other one tested is worse beyond noise.");
    parts.push(`Tested over dense networks in common, by Student’s t with Holm’s correction for ${count(tested.length, "row")}.`);
  }
  if (unknown.length) {
    parts.push(`${count(unknown.length, "setting")} with fewer than two dense networks in common with it cannot be told from noise; replicate=0,1,2 trains more.`);
  }
  return parts.join(" ");
}
