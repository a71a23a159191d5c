// The state in the address, after #, so that a link shows what its sender saw. Jobs, not places, are named in it.

const isState = (fragment) => fragment.includes("=");

function linkOf() {
  const { column, down } = state.sort;
  const looks = (wanted) => [...state.looks].flatMap(([name, look]) => (look === wanted ? [name] : []));
  const values = {
    group: data.groups.length > 1 ? data.groups[state.group].name : "", q: byId("filter").value.trim(),
    cost: state.cost.replace("_percent", ""), budget: state.limit ?? "", sort: `${column}${down ? "-" : "+"}`, a: runOf("a").job, b: runOf("b").job,
  };
  const words = new URLSearchParams(Object.entries(values).filter(([, value]) => value !== ""));
  for (const look of ["on", "off"]) looks(look).forEach((name) => words.append(look, name));
  return `#${words}`;
}

function writeLink() {
  history.replaceState(null, "", linkOf());
}

// Takes over what a link says, and says what of it this report does not have. The places of A and B that it names.
function readLink() {
  const words = new URLSearchParams(location.hash.slice(1));
  const missing = [];
  const placeOf = (items, word, name) => {
    const place = items.findIndex((item) => item[name] === words.get(word));
    if (words.has(word) && place < 0) missing.push(`${word}=${words.get(word)}`);
    return place;
  };
  const group = placeOf(data.groups, "group", "name");
  const chosen = Object.fromEntries(SIDES.map((side) => [side, placeOf(data.runs, side, "job")]));
  const cost = `${words.get("cost")}_percent`;
  const [, column, order] = words.get("sort")?.match(/^(.*)([+-])$/s) ?? [];
  state.cost = cost in COSTS ? cost : "macs_percent";
  state.looks = new Map(["on", "off"].flatMap((look) => words.getAll(look).map((name) => [name, look])));
  if (column) state.sort = { column, down: order === "-" };
  byId("filter").value = words.get("q") ?? "";
  byId("budget").value = words.get("budget") ?? "";
  document.querySelector(`input[name="cost"][value="${state.cost}"]`).checked = true;
  showGroup(group >= 0 ? group : data.runs[Math.max(chosen.a, 0)].group);
  const fits = (place) => place >= 0 && data.runs[place].group === state.group;
  byId("link-note").hidden = !missing.length;
  byId("link-note").textContent = `This report does not have what the link names: ${missing.join("; ")}.`;
  return Object.fromEntries(Object.entries(chosen).filter(([, place]) => fits(place)));
}

async function copyLink() {
  writeLink();
  try {
    await navigator.clipboard.writeText(location.href);
    byId("copy-link").textContent = "Copied";
  } catch {
    byId("copy-link").textContent = "It is in the address bar";
  }
  setTimeout(() => { byId("copy-link").textContent = "Copy link"; }, 2000);
}

// The sections' links scroll, and leave the state in the address.
function followSection(event) {
  const link = event.target.closest('a[href^="#"]');
  const target = link && byId(link.getAttribute("href").slice(1));
  if (!target) return;
  event.preventDefault();
  target.scrollIntoView();
  target.focus({ preventScroll: true });
}
