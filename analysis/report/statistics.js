// Student's t test, its interval and Holm's correction: the same as results/intervals.py, for runs that a reader chooses.

const LEVEL = 0.05; // of tests; intervals are of 1 - LEVEL

// Two-sided p of Student's t: the finite series for whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4).
function bothTails(t, freedom) {
  const angle = Math.atan(Math.abs(t) / Math.sqrt(freedom));
  const [sine, cosine, odd] = [Math.sin(angle), Math.cos(angle), freedom % 2];
  let term = odd ? cosine : 1;
  let sum = freedom === 1 ? 0 : term;
  for (let power = odd ? 3 : 2; power <= freedom - 2; power += 2) {
    term *= ((power - 1) / power) * cosine ** 2;
    sum += term;
  }
  const within = odd ? (2 / Math.PI) * (angle + sine * sum) : sine * sum;
  return Math.max(0, 1 - within);
}

const criticalValues = new Map();

// The t beyond which both tails hold LEVEL.
function critical(freedom) {
  if (!criticalValues.has(freedom)) {
    let [low, high] = [0, 20]; // 12.7 with one degree of freedom, and less with more
    for (let step = 0; step < 60; step += 1) {
      const middle = (low + high) / 2;
      if (bothTails(middle, freedom) > LEVEL) low = middle;
      else high = middle;
    }
    criticalValues.set(freedom, high);
  }
  return criticalValues.get(freedom);
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

// Mean, half the 95 % interval and p of a mean of zero; the last two are null for one value.
function interval(values) {
  const [number, middle] = [values.length, mean(values)];
  if (number < 2) return { count: number, mean: middle, half: null, p: null };
  const squares = values.reduce((sum, value) => sum + (value - middle) ** 2, 0);
  const error = Math.sqrt(squares / (number - 1) / number);
  const p = error === 0 ? Number(middle === 0) : bothTails(middle / error, number - 1);
  return { count: number, mean: middle, half: critical(number - 1) * error, p };
}

// Holm's p-values, in the order given; null stands for no test, and does not count.
function holm(values) {
  const order = [...values.keys()].filter((place) => values[place] !== null).sort((one, two) => values[one] - values[two]);
  const corrected = values.map(() => null);
  let highest = 0;
  order.forEach((place, number) => {
    highest = Math.max(highest, Math.min(1, (order.length - number) * values[place]));
    corrected[place] = highest;
  });
  return corrected;
}

// Interval of second - first over the keys that both have; null if they share none.
function pairedDifference(first, second) {
  const shared = [...second.keys()].filter((key) => first.has(key));
  return shared.length ? interval(shared.map((key) => second.get(key) - first.get(key))) : null;
}
