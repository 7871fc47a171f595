// The state, what changes it (buttons, keys, the pointer), and the one place that shows it.

const first = annotatedHere[0] ?? superpixelAt(width / 2, height / 2);
const state = {
  layer: "label",
  class: meta.annotated[0]?.class ?? (data.label[first] === IGNORED ? 0 : data.label[first]),
  network: null,
  superpixel: first,
  hover: null,
  pointer: null,
  similarity: Object.keys(MEASURES)[0],
  saliency: 0,
  opacity: 0.75,
  borders: false,
  pixels: true,
  peek: false,
};
let heat = null;
let painted = null;
let shown = null;
let pending = false;

function change(changes) {
  Object.assign(state, changes);
  if (state.network !== null && LAYERS[state.layer].needsClass) state.layer = "classMap";
  refresh();
}

function refresh() {
  if (pending) return;
  pending = true;
  requestAnimationFrame(() => {
    pending = false;
    show();
  });
}

function show() {
  const { layer, class: id, network, similarity: measure, saliency, superpixel } = state;
  const paint = [layer, id, network, saliency, layer === "similarity" && [measure, superpixel]].join();
  if (paint !== painted) {
    painted = paint;
    heat = paintLayer(overlayContext);
    drawLegend(heat);
    updateBars();
  }
  const selection = [superpixel, id, network, document.documentElement.dataset.theme].join();
  if (selection !== shown) {
    shown = selection;
    updateSuperpixel();
    updateScores();
    updateHistogram();
    updateResponses();
    updateBars();
  }
  updateSimilarities();
  updateReadout();
  draw();
}

const layerButtons = Object.entries(LAYERS).map(([name, layer]) => {
  const button = make("button", "", make("kbd", "", layer.key), layer.name);
  button.dataset.layer = name;
  button.addEventListener("click", () => choose(name));
  if (layer.absent) {
    button.disabled = true;
    button.title = "the data set has no labels";
  }
  return button;
});
element("layers").append(...layerButtons);

// Show a layer; choosing the shown one again goes on to its next variant.
function choose(name) {
  if (LAYERS[name].absent) return;
  const next = {};
  if (name === state.layer) {
    const variants = LAYERS[name].variants;
    if (name === "saliency") next.saliency = (state.saliency + 1) % variants.length;
    if (name === "similarity") next.similarity = variants[(variants.indexOf(state.similarity) + 1) % variants.length];
  }
  if (LAYERS[name].needsClass) next.network = null;
  change({ layer: name, ...next });
}

function updateBars() {
  for (const button of layerButtons) button.setAttribute("aria-pressed", String(button.dataset.layer === state.layer));
  const { variants } = LAYERS[state.layer];
  const current = state.layer === "saliency" ? meta.views[state.saliency] : state.similarity;
  element("variants").replaceChildren(
    ...(variants ?? []).map((name, index) => {
      const button = make("button", "", name);
      button.setAttribute("aria-pressed", String(name === current));
      button.addEventListener("click", () => change(state.layer === "saliency" ? { saliency: index } : { similarity: name }));
      return button;
    }),
  );
  element("explanation").textContent = LAYERS[state.layer].explain();
}

function updateReadout() {
  const parts = [];
  const say = (name, value) => parts.push(make("span", "", `${name} `, make("b", "", value)));
  const { hover, pointer } = state;
  let value = null;
  if (hover !== null) {
    const pixel = pointer[1] * width + pointer[0];
    say("x, y", pointer.join(", "));
    say("superpixel", String(hover));
    if (heat) {
      value = heat.at(pixel, hover);
      say(LAYERS[state.layer].name.toLowerCase(), format(value, digitsFor(heat.range[1] - heat.range[0])));
    }
    say("label", className(data.label[hover]));
    if (data.truth) say("truth", className(data.truth[pixel]));
    say("band", String(data.band[hover]));
  } else {
    parts.push(make("span", "", "Click a superpixel to select it. Scroll to zoom, drag to move, double-click to fit."));
  }
  element("readout").replaceChildren(...parts);
  if (heat) pointAt(value, heat.range);
}

function turnClass(step) {
  change({ class: (state.class + step + classCount) % classCount, network: null, layer: heatLayer(true) });
}

function turnTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  refresh();
}

const KEYS = [
  ["1 … 9, 0, T", "the layers, as on their buttons; again: the next variant", null],
  ["↑ ↓", "the class before, the class after", { ArrowUp: () => turnClass(-1), ArrowDown: () => turnClass(1) }],
  ["F", "hold to see the frame without what lies over it", { f: () => change({ peek: true }) }],
  ["[ ]", "less opaque, more opaque", { "[": () => turnOpacity(-0.1), "]": () => turnOpacity(0.1) }],
  ["S", "borders of the superpixels", { s: () => toggle("borders") }],
  ["P", "annotated pixels", { p: () => toggle("pixels") }],
  ["+ −", "zoom", { "+": () => turnZoom(1.4), "=": () => turnZoom(1.4), "-": () => turnZoom(1 / 1.4) }],
  ["Esc", "fit the frame", { Escape: () => turnZoom(0) }],
  ["/", "search the network's classes", { "/": () => element("search").focus() }],
  ["H", "scores of every class over the data set", { h: () => element("figure").showModal() }],
  ["D", "dark or light", { d: turnTheme }],
  ["?", "this list", { "?": () => element("help").showModal() }],
];
const actions = Object.assign({}, ...KEYS.map(([, , entries]) => entries));
for (const [name, layer] of Object.entries(LAYERS)) actions[layer.key.toLowerCase()] = () => choose(name);
element("keys").append(...KEYS.flatMap(([keys, what]) => [make("dt", "", make("kbd", "", keys)), make("dd", "", what)]));

function turnOpacity(step) {
  change({ opacity: Math.min(1, Math.max(0, state.opacity + step)) });
  element("opacity").value = Math.round(100 * state.opacity);
}

function turnZoom(factor) {
  if (factor) zoom(factor);
  else fit();
  refresh();
}

function toggle(name) {
  change({ [name]: !state[name] });
  element(name).checked = state[name];
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const { type } = event.target;
  if (type === "search" && event.key === "Escape") event.target.blur();
  if (type === "search" || (type === "range" && event.key.startsWith("Arrow"))) return;
  if (document.querySelector("dialog[open]")) return;
  const action = actions[event.key] ?? actions[event.key.toLowerCase()];
  if (!action) return;
  event.preventDefault();
  action();
});
document.addEventListener("keyup", (event) => event.key.toLowerCase() === "f" && change({ peek: false }));
for (const name of ["borders", "pixels"]) element(name).addEventListener("change", () => change({ [name]: element(name).checked }));
element("opacity").addEventListener("input", () => change({ opacity: element("opacity").value / 100 }));
element("search").addEventListener("input", updateResponses);
element("search").placeholder = `Search ${networkCount} classes`;
element("theme-button").addEventListener("click", turnTheme);
element("help-button").addEventListener("click", () => element("help").showModal());
element("figure-button").addEventListener("click", () => element("figure").showModal());
for (const dialog of document.querySelectorAll("dialog")) dialog.addEventListener("click", () => dialog.close());

listenToPointer(
  (x, y) => {
    const hover = superpixelAt(x, y);
    change({ hover, pointer: hover === null ? null : [Math.floor(x), Math.floor(y)] });
  },
  (superpixel) => superpixel !== null && change({ superpixel }),
  refresh,
);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", ({ matches }) => {
  document.documentElement.dataset.theme = matches ? "dark" : "light";
  refresh();
});
document.documentElement.dataset.theme = matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
element("frame-name").textContent = meta.frame;
element("frame-facts").textContent =
  `${meta.dataset} · ${width} × ${height} · ${count} superpixels · preset ${meta.preset} over ${meta.frames} ${meta.frames === 1 ? "frame" : "frames"}`;
element("scores-unit").textContent = `Unit: ${meta.unit}. Grey: may not stand in this band. Bold: the label.`;
element("after-key").textContent = WORDS.afterKey;
element("threshold-key").hidden = !judged;
element("histogram-note").textContent = "Filled: after; line: before. Logarithmic, open ends.";
show();
document.documentElement.dataset.ready = "true";
