// Frames

const CROPS = { lr: "low resolution", bicubic: "bicubic", input: "input", dense: "dense", pruned: "pruned", truth: "truth" };

// What can be shown at a place: A's crops, and those of B that are other pictures.
function pictures(place) {
  const found = [];
  for (const side of SIDES) {
    for (const [kind, crop] of Object.entries(runOf(side).crops[place] ?? {})) {
      const known = found.find((item) => item.kind === kind && item.key === crop.key);
      if (known) known.sides.push(side);
      else found.push({ id: `${side}/${kind}`, kind, key: crop.key, psnr: crop.psnr, sides: [side] });
    }
  }
  const order = Object.keys(CROPS);
  return found.sort((one, two) => order.indexOf(one.kind) - order.indexOf(two.kind)).map((item) => ({
    ...item, name: item.sides.length === 2 ? CROPS[item.kind] : `${CROPS[item.kind]} (${item.sides[0].toUpperCase()})`,
  }));
}

function fillSelect(select, options, wanted) {
  const kept = options.some(([value]) => value === select.value) ? select.value : wanted;
  select.replaceChildren(...options.map(([value, label]) => node("option", { value }, label)));
  select.value = options.some(([value]) => value === kept) ? kept : options[0]?.[0];
}

function drawFrames() {
  const places = [...new Set(SIDES.flatMap((side) => Object.keys(runOf(side).crops)))];
  const dropped = SIDES.filter((side) => runOf(side).dropped);
  byId("dropped").hidden = !dropped.length;
  byId("dropped").textContent = `Crops of ${dropped.map((side) => side.toUpperCase()).join(" and ")} were left out, so that the file stays small; a report of fewer runs has them.`;
  byId("no-frames").hidden = places.length > 0 || dropped.length > 0;
  byId("frame-view").hidden = !places.length;
  if (!places.length) return;
  fillSelect(byId("place"), places.map((place) => [place, place]), places[0]);
  const options = pictures(byId("place").value).map(({ id, name }) => [id, name]);
  fillSelect(byId("left"), options, "a/bicubic");
  fillSelect(byId("right"), options, "a/pruned");
  drawSlider();
}

function drawSlider() {
  const place = byId("place").value;
  const found = pictures(place);
  for (const side of ["left", "right"]) {
    const item = found.find(({ id }) => id === byId(side).value) ?? found[0];
    byId(`image-${side}`).src = data.pictures[item.key];
    byId(`image-${side}`).alt = `${place}, ${item.name}`;
    byId(`tag-${side}`).textContent = typeof item.psnr === "number" ? `${item.name} ${formatted(item.psnr, 2)} dB` : item.name;
  }
  const where = runOf("a").places[place] ?? runOf("b").places[place];
  byId("place-caption").textContent = where
    ? `${place}: frame ${where.frame}, ${where.side} by ${where.side} pixels from (${where.x}, ${where.y})` : place;
  byId("crop-values").replaceChildren(cropTable(found));
  drawWhole(place, where);
}

// The whole frame of the truth, and in it the part that the crops show.
function drawWhole(place, where) {
  const key = SIDES.map((side) => runOf(side).frames[place]).find((found) => found);
  byId("whole").hidden = !key || !where;
  if (!key || !where) return;
  const { uri, width, height } = data.frames[key];
  byId("whole-image").src = uri;
  byId("whole-image").alt = `${place}, frame ${where.frame}, whole`;
  const share = (pixels, of) => `${(100 * pixels) / of}%`;
  Object.assign(byId("whole-part").style, {
    left: share(where.x, width), top: share(where.y, height), width: share(where.side, width), height: share(where.side, height),
  });
}

function cropTable(found) {
  const shown = (value) => (value === "same" ? "is the truth" : formatted(value, 2));
  const rows = found.map(({ name, psnr, kind }) => node(
    "tr", {}, node("th", { scope: "row" }, name), node("td", { class: "num" }, kind === "truth" ? MISSING : shown(psnr)),
  ));
  const unit = node("span", { class: "unit" }, "dB");
  return scrollable(table([["picture", ""], [node("span", {}, "PSNR ", unit), "num"]], rows), "PSNR of the crops");
}

function moveDivider() {
  byId("slider").style.setProperty("--at", `${byId("divider").value}%`);
  byId("divider").setAttribute("aria-valuetext", `${Math.round(byId("divider").value)} % left picture`);
}
