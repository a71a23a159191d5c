"use strict";
// The page's behaviour. Text from jobs and files goes in by textContent alone.
const $ = (id) => document.getElementById(id);
const KINDS = { bicubic: "bicubic", input: "input", dense: "dense", pruned: "pruned", truth: "truth" };
const COARSE = 2;  // above so many screen pixels per picture pixel, pixels are shown as they are
let jobs = [], clip = null, found = null, run = null, playing = null;
const seen = { x: 0.5, y: 0.5, divider: 0.5 };

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};
const checked = (name) => document.querySelector(`input[name="${name}"]:checked`)?.value;
const short = (value) => value >= 1e9 ? `${(value / 1e9).toPrecision(3)} G` : value >= 1e6 ? `${(value / 1e6).toPrecision(3)} M`
  : value >= 1e3 ? `${(value / 1e3).toPrecision(3)} K` : `${value}`;
const ms = (value) => value >= 100 ? value.toFixed(0) : value.toPrecision(3);

async function ask(path, settings) {
  let answer;
  try {
    answer = await fetch(path, settings);
  } catch {
    throw new Error("the page's server does not answer: is it still running in the terminal?");
  }
  const values = await answer.json();
  if (!answer.ok) throw new Error(values.error ?? `the server answered ${answer.status}`);
  return values;
}

function complain(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

// 1: jobs

function showJobs() {
  const words = $("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const label of $("jobs").children) {
    label.hidden = !words.every((word) => label.textContent.toLowerCase().includes(word));
  }
}

function addJobs() {
  $("jobs").replaceChildren(...jobs.map((job, index) => {
    const radio = element("input", { type: "radio", name: "job", value: job.name, checked: index === 0 });
    radio.addEventListener("change", showTruth);
    const gain = job.psnr - job.dense;
    const facts = [`${job.psnr.toFixed(2)} dB (${gain < 0 ? "−" : "+"}${Math.abs(gain).toFixed(2)} to dense)`,
      `${short(job.macs)} MACs, ${(100 * job.kept).toFixed(0)}%`, job.model];
    if (job.task !== "sr") facts.push(job.task);
    return element("label", { title: new Date(job.ended * 1000).toLocaleString() }, radio,
      element("strong", { textContent: job.name }), element("span", { textContent: facts.join(" · ") }));
  }));
  $("filter").hidden = jobs.length < 6;
  showTruth();
}

function showTruth() {
  const job = jobs.find((each) => each.name === checked("job"));
  const shrinks = Boolean(job) && job.scale > 1;
  $("truth").disabled = !shrinks;
  $("truth-text").textContent = shrinks
    ? `The clip is the truth: shrink it to 1/${job.scale}, enlarge that, compare`
    : "No truth can be made of a clip for this job's task";
  if (!shrinks) $("truth").checked = false;
}

// 2: a clip

function choose(id, title, more) {
  clip = id;
  $("dropped").textContent = title;
  $("dropped-more").textContent = more;
  for (const button of $("demo").children) button.setAttribute("aria-pressed", String(button.value === id));
  $("start").disabled = !id || Boolean(run);
}

async function take(files) {
  complain("");
  if (!files.length) return;
  choose(null, files.length === 1 ? files[0].name : `${files.length} pictures`, "on its way ...");
  try {
    const id = (await ask("/clips", { method: "POST" })).clip;
    let size = 0;
    for (const file of files) {
      await ask(`/clips/${id}/${encodeURIComponent(file.name)}`, { method: "PUT", body: file });
      size += file.size;
    }
    $("truth").checked = false;
    choose(id, files.length === 1 ? files[0].name : `${files.length} pictures`, `${short(size)}${size < 1e3 ? " " : ""}B; drop another to replace it`);
  } catch (error) {
    choose(null, "Drop a video or pictures here", "or click to choose; it stays on this machine");
    complain(error.message);
  }
  $("files").value = "";
}

function addDemo(names) {
  $("demo").replaceChildren(...names.map((name) => {
    const title = name.split(":")[1].split("_")[0];
    const button = element("button", { type: "button", value: name },
      element("img", { src: `/clips/${encodeURIComponent(name)}/first.png`, alt: "", width: 224, height: 160 }),
      element("span", { textContent: `demo: ${title}` }));
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => {
      if (!$("truth").disabled) $("truth").checked = true;
      choose(name, "Drop a video or pictures here", `a demo clip is chosen: ${title}`);
    });
    return button;
  }));
}

// 3: the comparison

function hide() {
  if (playing) play();
  found = null;  // its pictures are removed when the next comparison begins
  $("views").replaceChildren();
  $("found").hidden = true;
}

async function start(event) {
  event.preventDefault();
  complain("");
  hide();
  try {
    const body = { job: checked("job"), clip, frames: Number($("frames").value), as_truth: $("truth").checked };
    follow(await ask("/runs", { method: "POST", body: JSON.stringify(body) }));
  } catch (error) {
    complain(error.message);
  }
}

function follow(state) {
  const running = state.state === "running";
  run = running ? state.name : null;
  $("busy").hidden = !running;
  $("start").disabled = running || !clip;
  if (running) {
    hide();
    $("empty").hidden = true;
    $("stage").textContent = state.stage;
    $("count").textContent = state.total ? `${state.done + 1} of ${state.total}` : "";
    if (state.total) $("progress").value = state.done / state.total;
    else $("progress").removeAttribute("value");
    setTimeout(async () => {
      try {
        follow(await ask("/state"));
      } catch (error) {
        follow({ state: "lost" });
        complain(error.message);
      }
    }, 250);
    return;
  }
  if (state.state === "failed") complain(state.error);
  if (state.state === "cancelled") complain("cancelled; nothing was kept");
  if (state.state === "done") show(state);
  $("empty").hidden = Boolean(found);
}

// What was found

const kinds = () => [...Object.keys(found.columns), ...(found.has_truth ? ["truth"] : [])];

function show(state) {
  found = { ...state.found, name: state.name, job: state.job };
  const [height, width] = found.size;
  $("views").style.setProperty("--ratio", width / height);
  $("views").style.setProperty("--columns", kinds().length);
  Object.assign($("frame"), { max: found.shown - 1, value: 0 });
  for (const [id, kind] of [["left", kinds()[0]], ["right", "pruned"]]) {
    $(id).replaceChildren(...kinds().map((each) => element("option", { value: each, textContent: KINDS[each] })));
    $(id).value = kind;
  }
  showNumbers();
  $("video").href = `/runs/${found.name}/video`;
  $("found").hidden = false;
  layOut();
}

function showNumbers() {
  const dense = found.columns.dense;
  document.querySelectorAll("th.quality").forEach((head) => { head.hidden = !found.has_truth; });
  $("numbers").tBodies[0].replaceChildren(...Object.entries(found.columns).map(([kind, column]) => {
    const time = column.latency;
    const cells = found.has_truth ? [[column.mean_psnr.toFixed(2)], [column.mean_ssim.toFixed(4)]] : [];
    cells.push(time ? [ms(time.ms), ` ${ms(time.ms_fastest)}–${ms(time.ms_slowest)}`] : ["–"]);
    cells.push([time ? `${(dense.latency.ms / time.ms).toFixed(2)}×` : "–"]);
    cells.push([time ? short(column.macs) : "–"], [time ? `${(100 * column.macs / dense.macs).toFixed(1)}%` : "–"]);
    cells.push([time ? short(column.parameters) : "–"]);
    return element("tr", { className: kind }, element("th", { scope: "row", textContent: KINDS[kind] }),
      ...cells.map(([text, more]) => element("td", {}, text, ...(more ? [element("small", { textContent: more })] : []))));
  }));
  const size = ([height, width]) => `${width}x${height}`;
  const threads = found.device === "the CPU" ? `${found.threads} thread${found.threads === 1 ? "" : "s"} of the CPU` : found.device;
  const part = String(found.timed_size) === String(found.low_size) ? "frames" : `the middle, ${size(found.timed_size)}, of frames`;
  const how = [
    `${found.job}: ${found.frames} frames, ${size(found.low_size)} to ${size(found.size)}.`,
    `Times: median of ${found.repeats} turns (fastest–slowest) after a warm-up, dense and pruned in turns, each in its fastest form,`
      + ` on ${part} of this clip, ${threads}, 32 bits, flow net included.`,
    "MACs per 320x180 frame and parameters, without the flow net.",
  ];
  if (found.has_truth) {
    const border = found.crop ? `, ${found.crop} border pixels left out` : "";
    how.push(`PSNR in dB and SSIM on ${found.channel === "y" ? "Y" : "RGB"}, mean over frames${border}.`);
  }
  if (found.shown < found.frames) how.push(`Pictures are kept of the first ${found.shown} frames; the video has all.`);
  $("how").textContent = how.join(" ");
  $("notes").replaceChildren(...found.notes.map((note) => element("li", { textContent: note })));
}

function pane(names) {
  const box = element("div", { className: "window", tabIndex: 0 });
  box.setAttribute("role", "img");
  box.setAttribute("aria-label", `${names.map((name) => KINDS[name]).join(" and ")}; arrow keys move the view`);
  box.style.aspectRatio = `${found.size[1]} / ${found.size[0]}`;
  for (const name of names) {
    const image = element("img", { alt: KINDS[name] });
    image.dataset.kind = name;
    box.append(image);
  }
  box.addEventListener("pointermove", (event) => point(box, event));
  box.addEventListener("pointerdown", (event) => point(box, event));
  box.addEventListener("wheel", zoomBy, { passive: false });
  box.addEventListener("keydown", steer);
  return box;
}

function layOut() {
  const divided = checked("view") === "divider";
  $("pair").hidden = !divided;
  $("views").classList.toggle("divider", divided);
  if (divided) {
    const box = pane([$("right").value, $("left").value]);
    box.append(element("div", { className: "bar" }),
      element("span", { className: "side left", textContent: KINDS[$("left").value] }),
      element("span", { className: "side right", textContent: KINDS[$("right").value] }));
    $("views").replaceChildren(element("figure", {}, box));
  } else {
    $("views").replaceChildren(...kinds().map((kind) => element("figure", {},
      element("figcaption", {}, KINDS[kind], element("span", { className: "here" })), pane([kind]))));
  }
  showFrame();
  place();
}

function showFrame() {
  const index = Number($("frame").value);
  $("frame-text").textContent = `${index + 1} / ${found.shown}`;
  for (const image of $("views").querySelectorAll("img")) {
    image.src = `/runs/${found.name}/${image.dataset.kind}/${index}.png`;
    const psnr = found.columns[image.dataset.kind]?.psnr[index];
    const here = image.closest("figure").querySelector(".here");
    if (here) here.textContent = psnr === undefined ? "" : `${psnr.toFixed(2)} dB`;
  }
}

function place() {
  const zoom = Number(checked("zoom")), divided = checked("view") === "divider";
  for (const box of $("views").querySelectorAll(".window")) {
    const coarse = zoom * box.clientWidth * devicePixelRatio / found.size[1] >= COARSE;
    for (const image of box.querySelectorAll("img")) {
      image.classList.toggle("coarse", coarse);
      image.style.width = `${100 * zoom}%`;
      image.style.left = `${-100 * seen.x * (zoom - 1)}%`;
      image.style.top = `${-100 * seen.y * (zoom - 1)}%`;
    }
    if (!divided) continue;
    // In the picture's own width: where the divider stands in the window, seen through the zoom.
    const cut = (seen.divider + seen.x * (zoom - 1)) / zoom;
    box.querySelectorAll("img")[1].style.clipPath = `inset(0 ${100 * (1 - cut)}% 0 0)`;
    box.querySelector(".bar").style.left = `${100 * seen.divider}%`;
  }
}

const within = (value) => Math.min(1, Math.max(0, value));

function point(box, event) {
  const area = box.getBoundingClientRect();
  const x = within((event.clientX - area.left) / area.width), y = within((event.clientY - area.top) / area.height);
  if (checked("view") === "divider" && !event.buttons) seen.divider = x;
  else Object.assign(seen, { x, y });
  place();
}

function zoomBy(event) {
  if (!event.ctrlKey) return;  // a plain wheel scrolls the page
  event.preventDefault();
  const steps = [...document.querySelectorAll('input[name="zoom"]')];
  const next = steps[steps.findIndex((step) => step.checked) + (event.deltaY < 0 ? 1 : -1)];
  if (next) next.checked = true;
  place();
}

function steer(event) {
  const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
  if (!dx && !dy) return;
  event.preventDefault();
  if (checked("view") === "divider" && dx && !event.shiftKey) seen.divider = within(seen.divider + dx * 0.02);
  else Object.assign(seen, { x: within(seen.x + dx * 0.05), y: within(seen.y + dy * 0.05) });
  place();
}

function play() {
  if (playing) {
    clearInterval(playing);
    playing = null;
  } else if (found.shown > 1) {
    playing = setInterval(() => {
      $("frame").value = (Number($("frame").value) + 1) % found.shown;
      showFrame();
    }, Math.max(40, 1000 / found.rate));
  }
  $("play").textContent = playing ? "❚❚" : "▶";
  $("play").setAttribute("aria-label", playing ? "Pause" : "Play");
}

function listen() {
  $("filter").addEventListener("input", showJobs);
  $("files").addEventListener("change", () => take([...$("files").files]));
  for (const name of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(name, (event) => {
      event.preventDefault();
      $("drop").classList.toggle("over", name === "dragover");
      if (name === "drop") take([...event.dataTransfer.files]);
    });
  }
  $("ask").addEventListener("submit", start);
  $("cancel").addEventListener("click", () => {
    $("stage").textContent = "ending";
    ask("/cancel", { method: "POST" }).catch((error) => complain(error.message));
  });
  $("frame").addEventListener("input", showFrame);
  $("play").addEventListener("click", play);
  for (const id of ["left", "right"]) $(id).addEventListener("change", layOut);
  document.querySelectorAll('input[name="view"]').forEach((each) => each.addEventListener("change", layOut));
  document.querySelectorAll('input[name="zoom"]').forEach((each) => each.addEventListener("change", place));
  addEventListener("resize", () => { if (found) place(); });
}

listen();
ask("/jobs").then((values) => {
  jobs = values.jobs;
  addJobs();
  addDemo(values.demo);
  return ask("/state");
}).then(follow).catch((error) => complain(error.message));
