// Asks for the latest pair, draws the frame, its mask and its shares in one go; the other figures change a few times a
// second.

const element = (id) => document.getElementById(id);
const PAUSE = 250; // milliseconds between two changes of the figures: faster ones cannot be read
const RETRY = 1000;
const DIM = 0.12; // opacity of the classes that were not chosen
const COUNTS = {
  arrived: "Frames",
  segmented: "Masks",
  OVERFLOW: "Dropped: server busy",
  EXPIRED: "Dropped: too old",
  NOT_SENT: "Dropped: not sent",
  LOST: "Dropped: connection lost",
  failed: "Refused",
};
const TIMES = {
  decode: "Decode",
  queue: "Queue",
  inference: "Inference",
  encode: "Encode",
  other: "Wire and waiting",
  round_trip: "Round trip",
};

const view = {
  layout: "beside",
  opacity: { beside: 1, over: 0.6 },
  paused: false,
  only: null, // the class that is shown alone
  picture: null, // what is shown: the frame's bitmap, its class ids, and what the server said of them
  pointer: null, // the event of its last move over a picture
  digest: null, // of the model that the legend shows
  toldAt: 0,
};
const frame = element("frame").getContext("2d");
const mask = element("mask").getContext("2d");
const scratch = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

function make(tag, className, ...children) {
  const made = document.createElement(tag);
  made.className = className;
  made.append(...children);
  return made;
}

const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
const visible = () =>
  new Promise((done) => {
    if (!document.hidden) return done();
    document.addEventListener("visibilitychange", () => done(visible()), { once: true });
  });

async function ask(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  return response;
}

async function run() {
  for (;;) {
    await visible();
    try {
      if (view.paused) {
        tell(await (await ask("state")).json());
        await sleep(RETRY);
        continue;
      }
      const form = await (await ask(`next?after=${view.picture?.number ?? 0}`)).formData();
      const state = JSON.parse(form.get("state"));
      if (state.pair && !view.paused) await take(form, state);
      if (!state.pair || performance.now() - view.toldAt >= PAUSE) tell(state);
    } catch (error) {
      console.debug(error);
      say("problem", "The view has ended or cannot be reached; trying again every second");
      await sleep(RETRY);
    }
  }
}

async function take(form, { pair, server }) {
  const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
  const [picture, ids] = await Promise.all([
    createImageBitmap(form.get("frame"), options),
    createImageBitmap(form.get("mask"), options),
  ]);
  await new Promise(requestAnimationFrame); // no faster than the screen
  if (view.paused) return;
  const { width, height } = pair;
  if (scratch.canvas.width !== width || scratch.canvas.height !== height) {
    for (const { canvas } of [frame, mask, scratch]) Object.assign(canvas, { width, height, hidden: false });
    element("stage").style.setProperty("--aspect", width / height);
  }
  scratch.drawImage(ids, 0, 0);
  ids.close();
  const read = scratch.getImageData(0, 0, width, height);
  const classes = new Uint8Array(width * height);
  for (let pixel = 0; pixel < classes.length; pixel++) classes[pixel] = read.data[4 * pixel];
  view.picture?.bitmap.close();
  view.picture = { ...pair, bitmap: picture, classes, read };
  for (const id of ["frame-name", "mask-name"]) element(id).textContent = `${pair.name} · ${width} × ${height}`;
  tellPair(server);
  paint();
  point();
}

// The frame, and over it the mask: the classes' colours, black where there is none.
function paint() {
  if (!view.picture) return;
  const { bitmap, classes, read, model } = view.picture;
  const colours = new Uint32Array(256).fill(0xff000000); // ABGR, as the bytes of a pixel lie in memory
  for (const { id, colour } of model.classes) {
    const alpha = view.only === null || view.only === id ? 255 : Math.round(255 * DIM);
    colours[id] = ((alpha << 24) | (colour[2] << 16) | (colour[1] << 8) | colour[0]) >>> 0;
  }
  const pixels = new Uint32Array(read.data.buffer);
  for (let pixel = 0; pixel < classes.length; pixel++) pixels[pixel] = colours[classes[pixel]];
  scratch.putImageData(read, 0, 0);
  frame.drawImage(bitmap, 0, 0);
  mask.globalAlpha = 1;
  mask.drawImage(bitmap, 0, 0);
  mask.globalAlpha = view.opacity[view.layout];
  mask.drawImage(scratch.canvas, 0, 0);
}

function tell(state) {
  view.toldAt = performance.now();
  element("source").textContent = state.source;
  document.title = `${state.source} · onepixel view`;
  if (state.problem) say("problem", state.problem);
  else if (!view.picture) say("waiting", "Waiting for the first mask");
  else if (view.paused) say("paused", "Paused; the stream goes on");
  else say("live", "Live");
  for (const empty of document.querySelectorAll(".empty")) empty.hidden = view.picture !== null;
  tellFigures(state.figures);
  document.documentElement.dataset.ready = "true";
}

function say(kind, text) {
  const status = element("status");
  if (status.textContent !== text) status.textContent = text; // read aloud, so only when it changes
  status.dataset.kind = kind;
  element("stage").classList.toggle("stale", kind === "problem");
}

function tellPair(server) {
  const { model, shares } = view.picture;
  if (model.digest !== view.digest) showClasses(model);
  element("model").textContent =
    `${model.name} version ${model.version} · sha256 ${model.digest.slice(0, 12)} · ${server}`;
  element("model").title = model.digest;
  for (const { id } of model.classes) setRow(`class-${id}`, shares[id] ?? 0, `${(100 * (shares[id] ?? 0)).toFixed(1)} %`);
}

function tellFigures(figures) {
  element("rate-in").textContent = figures.rate_in.toFixed(1);
  element("rate-out").textContent = figures.rate_out.toFixed(1);
  const counts = { ...figures, ...figures.dropped };
  for (const [name, label] of Object.entries(COUNTS)) {
    if (!(name in counts)) continue;
    if (!element(`count-${name}`)) {
      const count = make("dd", "");
      count.id = `count-${name}`;
      element("counts").append(make("dt", "", label), count);
    }
    element(`count-${name}`).textContent = counts[name].toLocaleString("en");
  }
  element("last-failure").textContent = figures.last_failure ?? "";
  const times = { ...figures.times_ms, round_trip: figures.round_trip_ms };
  for (const [name, value] of Object.entries(times)) {
    setRow(`time-${name}`, value === null ? 0 : value / times.round_trip, value === null ? "–" : value.toFixed(1));
  }
}

function makeRow(tag, id, colour, label) {
  const name = make("span", "name", make("span", "", label));
  if (colour) {
    const swatch = make("span", "swatch");
    swatch.style.background = `rgb(${colour})`;
    name.prepend(swatch);
  }
  const row = make(tag, "row", name, make("span", "track", make("i", "")), make("span", "value", "–"));
  row.id = id;
  return row;
}

function setRow(id, share, text) {
  const row = element(id);
  row.querySelector("i").style.width = `${Math.min(100, 100 * share)}%`;
  row.querySelector(".value").textContent = text;
}

function showClasses(model) {
  view.digest = model.digest;
  view.only = null;
  const rows = model.classes.map(({ id, name, colour }) => {
    const row = makeRow("button", `class-${id}`, colour, name);
    row.setAttribute("aria-pressed", "false");
    row.addEventListener("click", () => choose(view.only === id ? null : id));
    return row;
  });
  element("classes").replaceChildren(...rows);
}

function choose(only) {
  view.only = only;
  for (const row of element("classes").children) row.setAttribute("aria-pressed", String(row.id === `class-${only}`));
  paint();
}

function lay(layout) {
  view.layout = layout;
  document.querySelector("main").classList.toggle("over", layout === "over");
  for (const name of ["beside", "over"]) element(name).setAttribute("aria-pressed", String(name === layout));
  setOpacity(view.opacity[layout]);
}

function setOpacity(opacity) {
  view.opacity[view.layout] = Math.min(1, Math.max(0, opacity));
  element("opacity").value = Math.round(100 * view.opacity[view.layout]);
  paint();
}

function pause() {
  view.paused = !view.paused;
  element("pause").setAttribute("aria-pressed", String(view.paused));
  view.toldAt = 0; // so that the status says so at once
}

function turnTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
}

// Name the class under the pointer, which stays while the pictures change.
function point() {
  let pointed = null;
  if (view.pointer && view.picture) {
    const { width, height, classes, model } = view.picture;
    const box = view.pointer.target.getBoundingClientRect();
    const x = Math.floor(((view.pointer.clientX - box.x) / box.width) * width);
    const y = Math.floor(((view.pointer.clientY - box.y) / box.height) * height);
    if (x >= 0 && y >= 0 && x < width && y < height) pointed = model.classes.find(({ id }) => id === classes[y * width + x]);
  }
  element("pointed").textContent = pointed?.name ?? "";
  for (const row of element("classes").children) row.classList.toggle("pointed", row.id === `class-${pointed?.id}`);
}

for (const { canvas } of [frame, mask]) {
  for (const [kind, pointer] of [["pointermove", (event) => event], ["pointerleave", () => null]]) {
    canvas.addEventListener(kind, (event) => {
      view.pointer = pointer(event);
      point();
    });
  }
}

const ACTIONS = {
  1: () => lay("beside"),
  2: () => lay("over"),
  "[": () => setOpacity(view.opacity[view.layout] - 0.1),
  "]": () => setOpacity(view.opacity[view.layout] + 0.1),
  p: pause,
  d: turnTheme,
  escape: () => choose(null),
};
document.addEventListener("keydown", (event) => {
  const action = ACTIONS[event.key.toLowerCase()];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  action();
});
element("beside").addEventListener("click", () => lay("beside"));
element("over").addEventListener("click", () => lay("over"));
element("pause").addEventListener("click", pause);
element("theme").addEventListener("click", turnTheme);
element("opacity").addEventListener("input", () => setOpacity(element("opacity").value / 100));
element("times").append(...Object.entries(TIMES).map(([name, label]) => makeRow("div", `time-${name}`, null, label)));
const dark = matchMedia("(prefers-color-scheme: dark)");
const followSystem = () => (document.documentElement.dataset.theme = dark.matches ? "dark" : "light");
dark.addEventListener("change", followSystem);
followSystem();
run();
