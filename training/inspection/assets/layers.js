// What lies over the frame: for each layer its key, its variants, what it says, and how it is painted.
//
// `values` gives a number per superpixel, which takes its colour from the colour map between the ends of `range`;
// `bytes` gives 255 times a number in [0, 1] per pixel; `colours` gives colours outright.

const VIRIDIS = data.colourMap;
// Differences in similarity below this are those of its rounding.
const LEAST_SPAN = 1e-3;
const BAND_COLOURS = [0.15, 0.4, 0.65, 0.95].map((at) => [...VIRIDIS.subarray(Math.round(at * 255) * 3).slice(0, 3)]);
const meanColours = Array.from({ length: count }, (_, i) => [...data.meanColour.subarray(3 * i, 3 * i + 3)]);

// What the steps of the method are called.
const WORDS = {
  similarity: {
    classMap: "similarity to what represents the class, eq (1)",
    before: "score before refinement",
    after: "score after refinement",
    afterKey: "after refinement",
    measured: () => "",
  },
  propagation: {
    classMap: "similarity of the embedding to that of the class's annotated region",
    before: "score as it spreads over the graph",
    after: "score less an object's margin; the highest is the label",
    afterKey: "less an object's margin",
    measured: (measure) => (measure === "embedding" ? "" : "; not in the graph"),
  },
}[meta.method];

const chosenClass = () => state.network === null;
const chosenName = () => (chosenClass() ? meta.classes[state.class].name : meta.networkClasses[state.network]);

// Both scores of a class share one range, so that flipping between them shows what refinement does. The sources and
// sinks of a propagation, the annotated superpixels, stand so far out that they would take it all: they are left out.
const scoreRange = () => {
  const left = new Set(meta.method === "propagation" ? annotatedHere : []);
  const seen = (array) => column(data[array], classCount, state.class).filter((_, i) => !left.has(i));
  return extent(seen("before"), seen("after"));
};

function scoreLayer(key, name, array) {
  return {
    key,
    name,
    explain: () => (chosenClass() ? `${chosenName()}: ${WORDS[array]}` : "Choose one of the data set's classes"),
    values: () => column(data[array], classCount, state.class),
    range: scoreRange,
    threshold: () => meta.classes[state.class].threshold,
    unit: meta.unit,
    needsClass: true,
    hatched: true,
  };
}

const KNOWN_MEASURES = {
  embedding: "cosine of the embeddings",
  semantic: "eq (1) of the class responses H",
  colour: "eq (1) of the colours C",
  texture: "eq (1) of the textures T",
  edges: "E, 1 without an edge on the way",
  context: "Simc of eq (3)",
};
const MEASURES = Object.fromEntries(Object.entries(KNOWN_MEASURES).filter(([measure]) => data[measure]));

const LAYERS = {
  frame: { key: "1", name: "Frame", explain: () => "The frame itself" },
  superpixels: {
    key: "2",
    name: "Superpixels",
    explain: () => `${count} superpixels in their mean colours`,
    colours: () => ({ perSuperpixel: meanColours }),
  },
  edges: {
    key: "3",
    name: "Edges",
    explain: () => "Edge strength, from which E follows",
    bytes: () => data.edgeMap,
  },
  saliency: {
    key: "4",
    name: "Saliency",
    variants: meta.views,
    explain: () => `Saliency, ${state.saliency ? `in each of ${meta.views[state.saliency]} alone` : "of the whole frame"}`,
    bytes: () => data.saliency.subarray(state.saliency * width * height, (state.saliency + 1) * width * height),
  },
  classMap: {
    key: "5",
    name: "Class map",
    explain: () =>
      chosenClass()
        ? `${chosenName()}: ${WORDS.classMap}`
        : `${chosenName()}: share of the class in the network's responses`,
    values: () => (chosenClass() ? column(data.classMaps, classCount, state.class) : responseRow(state.network)),
    range: (values) => (chosenClass() ? extent(values) : [0, Math.max(extent(values)[1], 1e-6)]),
    get unit() {
      return chosenClass() ? "similarity" : "share";
    },
  },
  before: scoreLayer("6", "Before", "before"),
  after: scoreLayer("7", "After", "after"),
  similarity: {
    key: "8",
    name: "Similarity",
    variants: Object.keys(MEASURES),
    explain: () =>
      `Similarity to superpixel ${state.superpixel}: ${MEASURES[state.similarity]}${WORDS.measured(state.similarity)}`,
    values: () => similarityRow(state.similarity, state.superpixel),
    range: (values) => {
      const [low, high] = extent(values.filter((_, j) => j !== state.superpixel));
      return [low, Math.max(high, low + LEAST_SPAN)];
    },
    unit: "similarity",
  },
  bands: {
    key: "9",
    name: "Bands",
    explain: () => "Rows of the frame that say which classes may stand in a superpixel",
    colours: () => ({ perSuperpixel: Array.from(data.band, (band) => BAND_COLOURS[band - 1]) }),
  },
  label: {
    key: "0",
    name: "Label",
    explain: () => `Pseudo label of the preset ${meta.preset}`,
    colours: () => ({ perSuperpixel: Array.from(data.label, classColour) }),
  },
  truth: {
    key: "T",
    name: "Truth",
    explain: () => "True classes, read for comparison alone",
    colours: () => ({ perPixel: data.truth, palette: Array.from({ length: 256 }, (_, id) => classColour(id < classCount ? id : IGNORED)) }),
    absent: !data.truth,
  },
};

function mapped(value, [low, high]) {
  const at = Math.round(255 * Math.min(1, Math.max(0, (value - low) / Math.max(high - low, 1e-9))));
  return VIRIDIS.subarray(3 * at, 3 * at + 3);
}

// Paint the current layer on the overlay, width x height. Of a heat map, return its range and the value at a place.
function paintLayer(context) {
  const layer = LAYERS[state.layer];
  const image = context.createImageData(width, height);
  const pixels = new Uint32Array(image.data.buffer);
  const word = ([red, green, blue]) => ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  const fill = (indices, words) => indices.forEach((index, pixel) => (pixels[pixel] = words[index]));
  let heat = null;
  if (layer.bytes) {
    const bytes = layer.bytes();
    heat = { range: [0, 1], at: (pixel) => bytes[pixel] / 255 };
    fill(bytes, Uint32Array.from({ length: 256 }, (_, byte) => word(mapped(byte, [0, 255]))));
  } else if (layer.values) {
    const values = layer.values();
    const range = layer.range(values);
    heat = { range, at: (_, superpixel) => values[superpixel] };
    fill(data.superpixels, Uint32Array.from(values, (value) => word(mapped(value, range))));
    if (layer.hatched) hatch(pixels);
  } else if (layer.colours) {
    const { perSuperpixel, perPixel, palette } = layer.colours();
    fill(perPixel ?? data.superpixels, Uint32Array.from(palette ?? perSuperpixel, word));
  }
  context.putImageData(image, 0, 0);
  return heat;
}

// Where the chosen class may not stand, let the frame through in diagonal stripes.
function hatch(pixels) {
  const stripe = Math.max(2, Math.round(width / 160));
  data.superpixels.forEach((superpixel, pixel) => {
    if (data.allowed[superpixel * classCount + state.class]) return;
    const place = (pixel % width) + Math.floor(pixel / width);
    if (Math.floor(place / stripe) % 3) pixels[pixel] = 0;
  });
}

function drawLegend(heat) {
  const legend = element("legend");
  const layer = LAYERS[state.layer];
  legend.replaceChildren();
  if (heat) legend.append(colourBar(layer, heat));
  if (layer.hatched) legend.append(make("span", "", `Stripes: it may not stand there. Outlined: labelled ${chosenName()}.`));
  if (state.layer === "label" || state.layer === "truth") {
    for (const id of [...meta.classes.keys(), IGNORED]) {
      legend.append(make("span", "", swatch(classColour(id)), className(id)));
    }
  }
  if (state.layer === "bands") {
    legend.append(...BAND_COLOURS.map((colour, index) => make("span", "", swatch(colour), String(index + 1))));
    const groups = Map.groupBy(meta.classes, (entry) => entry.bands.join(", "));
    for (const [bands, entries] of groups) {
      legend.append(make("span", "", make("b", "", bands), ` ${entries.map((entry) => entry.name).join(", ")}`));
    }
  }
}

function colourBar(layer, { range }) {
  const bar = make("canvas");
  [bar.width, bar.height] = [256, 1];
  const context = bar.getContext("2d");
  for (let at = 0; at < 256; at++) {
    context.fillStyle = `rgb(${VIRIDIS.subarray(3 * at, 3 * at + 3).join(" ")})`;
    context.fillRect(at, 0, 1, 1);
  }
  const digits = digitsFor(range[1] - range[0]);
  const strip = make("div", "strip", bar);
  if (layer.threshold && judged) {
    const at = (layer.threshold() - range[0]) / (range[1] - range[0]);
    if (at >= 0 && at <= 1) strip.append(mark("threshold", at, `threshold ${format(layer.threshold())}`));
  }
  strip.append(mark("here", -1, ""));
  const scale = make("div", "scale", format(range[0], digits), strip, format(range[1], digits));
  if (layer.unit) scale.append(make("span", "unit", layer.unit));
  return scale;
}

function mark(className, at, title) {
  const made = make("i", className);
  made.title = title;
  placeMark(made, at);
  return made;
}

function placeMark(made, at) {
  made.hidden = at < 0 || at > 1;
  made.style.left = `${100 * at}%`;
}

// Point at the value under the pointer on the colour bar.
function pointAt(value, range) {
  const here = document.querySelector("#legend .here");
  if (here) placeMark(here, value === null ? -1 : (value - range[0]) / Math.max(range[1] - range[0], 1e-9));
}
