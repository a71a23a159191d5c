// The filter: words that must all match. `readFilter` makes tests of the text, or an error that points at a word.

const COMPARE = {
  "<": (one, two) => one < two, "<=": (one, two) => one <= two, ">": (one, two) => one > two, ">=": (one, two) => one >= two,
};
const SHORT = { macs: "macs_percent", time: "time_percent", parameters: "parameters_percent", latency: "latency_ms", memory: "peak_memory_mib" };
const NAMES_TOLD = 12;

function knob(run, name) {
  for (const key of [name, `${name}.name`]) {
    const value = run.config[key] ?? data.common[key];
    if (value !== undefined && value !== null) return value;
  }
  return undefined;
}

function equal(value, wanted) {
  return value.toLowerCase() === wanted || (value !== "" && wanted !== "" && Number(value) === Number(wanted));
}

function listed(names) {
  const shown = names.slice(0, NAMES_TOLD).join(", ");
  return names.length > NAMES_TOLD ? `${shown} and ${names.length - NAMES_TOLD} more` : shown;
}

// The knob or measure that a word means: its name, or the start of the only one that starts so.
function meant(word, sign) {
  const measure = SHORT[word] ?? word;
  const isKnob = data.runs.some((run) => knob(run, word) !== undefined);
  if (measures.has(measure) && !(sign === "=" && isKnob)) return { measure: measures.get(measure) };
  if (isKnob) return { knob: word };
  const shown = data.columns.map(({ name }) => name);
  const every = [...new Set([...shown, ...Object.keys(data.runs[0].config), ...Object.keys(data.common), ...Object.keys(SHORT)])];
  const starts = (names) => names.filter((name) => name.toLowerCase().startsWith(word) || name.toLowerCase().split(".").at(-1) === word);
  const found = [starts(shown), starts(every)].find((names) => names.length) ?? [];
  if (found.length === 1) return meant(found[0], sign);
  if (found.length) throw Error(`“${word}” may be ${listed(found)}; write one of them`);
  throw Error(`No knob and no measure is called “${word}”; there are ${listed([...shown.filter((name) => !measures.has(name)), ...Object.keys(SHORT), ...shown.filter((name) => measures.has(name))])}`);
}

function numberIn(text) {
  if (text === "" || Number.isNaN(Number(text))) throw Error(`“${text}” is no number; write one such as macs<60`);
  return Number(text);
}

// Measures are tested on a setting's mean: choosing its runs by what came out would change the mean.
function measureTest({ name, digits }, sign, values) {
  const wanted = values.map(numberIn);
  const rounded = (value) => Number(value.toFixed(digits ?? 12));
  const passes = sign === "="
    ? (value) => wanted.some((other) => rounded(value) === rounded(other))
    : (value) => COMPARE[sign](value, wanted[0]);
  return { ofSetting: (row) => isNumber(row.values[name]) && passes(row.values[name]) };
}

function knobTest(name, sign, values) {
  const known = (run) => knob(run, name) !== undefined;
  if (sign !== "=") {
    const limit = numberIn(values[0]);
    return { ofRun: (run) => known(run) && knob(run, name) !== "" && COMPARE[sign](Number(knob(run, name)), limit) };
  }
  const tests = values.map((wanted) => {
    const exact = (run) => known(run) && equal(knob(run, name), wanted);
    const holds = (run) => known(run) && wanted !== "" && knob(run, name).toLowerCase().includes(wanted);
    const test = [exact, holds].find((one) => data.runs.some(one));
    if (!test) {
      const there = [...new Set(data.runs.filter(known).map((run) => knob(run, name)))];
      throw Error(`No run has ${name}=${wanted}; there are ${listed(there)}`);
    }
    return test;
  });
  return { ofRun: (run) => tests.some((test) => test(run)) };
}

function bareTest(word) {
  const isValue = (run) => data.knobs.some((item) => knob(run, item)?.toLowerCase() === word);
  if (!/^[\d.]+$/.test(word) && data.runs.some(isValue)) return { ofRun: isValue };
  const inName = (run) => run.job.toLowerCase().includes(word);
  if (!data.runs.some(inName)) throw Error(`“${word}” is neither a knob’s value nor part of a job’s name`);
  return { ofRun: inName };
}

function wordTest(word) {
  const wanted = word.startsWith("-") ? word.slice(1) : word;
  if (!wanted) throw Error("“-” leaves out what stands right after it, such as -rsc");
  const [, name, sign, rest] = wanted.match(/^([^<>=]*)(<=|>=|<|>|=)(.*)$/s) ?? [];
  const values = rest?.split(/[,|]/) ?? [];
  if (sign && sign !== "=" && values.length > 1) throw Error(`${sign} takes one number; got “${rest}”`);
  const test = sign === undefined ? bareTest(wanted) : wordOf(meant(name, sign), sign, values);
  if (wanted === word) return test;
  return Object.fromEntries(Object.entries(test).map(([of, passes]) => [of, (item) => !passes(item)]));
}

function wordOf(named, sign, values) {
  return named.measure ? measureTest(named.measure, sign, values) : knobTest(named.knob, sign, values);
}

// { ofRun, ofSetting } of a text: whether a run, and a setting's means, pass; or { error, start, end } of a wrong word.
function readFilter(text) {
  const tests = [];
  for (const { 0: word, index } of text.matchAll(/\S+/g)) {
    try {
      tests.push(wordTest(word.toLowerCase()));
    } catch (error) {
      return { error: error.message, start: index, end: index + word.length };
    }
  }
  const all = (of) => (item) => tests.every((test) => !test[of] || test[of](item));
  return { ofRun: all("ofRun"), ofSetting: all("ofSetting") };
}
