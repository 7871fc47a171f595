// The panel: the selected superpixel, its scores by class, the chosen class over the data set, the network's classes.

const MOST_RESPONSES = 40;
// The axis of the bars: what 98 of 100 scores of the frame lie in, and every threshold; longer bars are cut.
const scoreDomain = (() => {
  const sorted = Float32Array.from([...data.before, ...data.after]).sort();
  const central = [0.01, 0.99].map((share) => sorted[Math.round(share * (sorted.length - 1))]);
  const thresholds = judged ? meta.classes.map((entry) => entry.threshold) : [];
  const [low, high] = extent(central, thresholds, [0]);
  return [low - 0.05 * (high - low), high + 0.05 * (high - low)];
})();
const onScale = (value) => (100 * (value - scoreDomain[0])) / (scoreDomain[1] - scoreDomain[0]);

const strongest = Array.from({ length: networkCount }, (_, index) => data.mostResponse[index]);

function bar(className) {
  return make("i", className);
}

function placeBar(made, from, to) {
  made.style.left = `${Math.min(from, to)}%`;
  made.style.width = `${Math.abs(to - from)}%`;
}

const scoreRows = meta.classes.map((entry, id) => {
  const [before, after, zero, threshold] = ["bar-before", "bar-after", "zero", "threshold"].map(bar);
  zero.style.left = `${onScale(0)}%`;
  threshold.hidden = !judged;
  threshold.style.left = `calc(${onScale(entry.threshold)}% - 1px)`;
  const values = [make("span", "value first"), make("span", "value")];
  const row = make(
    "div",
    "row",
    make("span", "name", swatch(entry.colour), make("span", "", entry.name)),
    make("span", "track", zero, before, after, threshold),
    ...values,
  );
  clickable(row, "option", () => change({ class: id, network: null, layer: heatLayer(true) }));
  return { row, before, after, values };
});
element("scores").append(...scoreRows.map(({ row }) => row));

// The layer to show when a class was chosen: a score where one is shown, else the class map.
function heatLayer(ofDataset) {
  const shown = LAYERS[state.layer].needsClass;
  return shown && ofDataset ? state.layer : ofDataset ? "after" : "classMap";
}

function updateSuperpixel() {
  const i = state.superpixel;
  element("superpixel-name").textContent = `Superpixel ${i}`;
  const label = data.label[i];
  const facts = [
    ["label", [swatch(classColour(label)), className(label)]],
    ["band", [`${data.band[i]} of 4`]],
    ["centre", [`x ${format(data.centre[2 * i + 1], 0)}, y ${format(data.centre[2 * i], 0)}`]],
    ["area", [`${data.area[i]} pixels`]],
  ];
  const truth = trueShares(i)[0];
  if (truth) facts.splice(1, 0, ["truth", [swatch(classColour(truth.id)), `${className(truth.id)} ${percent(truth.share)}`]]);
  element("superpixel-facts").replaceChildren(
    ...facts.flatMap(([name, content]) => [make("dt", "", name), make("dd", "", ...content)]),
  );
}

function updateScores() {
  const i = state.superpixel;
  scoreRows.forEach(({ row, before, after, values }, id) => {
    const [first, second] = [data.before[i * classCount + id], data.after[i * classCount + id]];
    const may = data.allowed[i * classCount + id] === 1;
    placeBar(before, onScale(0), onScale(first));
    placeBar(after, onScale(0), onScale(second));
    values[0].textContent = format(first);
    values[1].textContent = format(second);
    row.classList.toggle("barred", !may);
    row.classList.toggle("winner", data.label[i] === id);
    row.title = may ? "" : `${className(id)} may not stand in band ${data.band[i]}`;
    row.setAttribute("aria-selected", String(chosenClass() && state.class === id));
  });
}

function updateHistogram() {
  const id = state.class;
  const { name, kind, bands, threshold, colour } = meta.classes[id];
  const ranks = meta.bins;
  element("histogram-name").replaceChildren(
    name,
    make("small", "", [kind, `band${bands.length > 1 ? "s" : ""} ${bands.join(", ")}`, ...(judged ? [`threshold ${format(threshold)}`] : [])].join(" · ")),
  );
  const drawing = element("histogram");
  const ratio = devicePixelRatio;
  const [wide, high] = [drawing.clientWidth, drawing.clientHeight];
  if (!wide) return;
  [drawing.width, drawing.height] = [wide * ratio, high * ratio];
  const context = drawing.getContext("2d");
  context.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const ink = (property) => style.getPropertyValue(property);
  const [low, high_] = [data.histogramRange[2 * id], data.histogramRange[2 * id + 1]];
  const floor = high - 16;
  const counts = [0, 1].map((which) => data.histograms.subarray((which * classCount + id) * ranks, (which * classCount + id + 1) * ranks));
  const most = Math.log1p(Math.max(1, extent(...counts)[1]));
  const x = (value) => ((value - low) / Math.max(high_ - low, 1e-9)) * (wide - 2) + 1;
  const tall = (number) => (Math.log1p(number) / most) * (floor - 12);
  const step = (wide - 2) / ranks;
  context.fillStyle = `rgb(${colour.join(" ")} / 70%)`;
  counts[1].forEach((number, rank) => context.fillRect(1 + rank * step, floor - tall(number), step - 0.5, tall(number)));
  context.strokeStyle = ink("--soft");
  context.beginPath();
  counts[0].forEach((number, rank) => {
    context.lineTo(1 + rank * step, floor - tall(number));
    context.lineTo(1 + (rank + 1) * step, floor - tall(number));
  });
  context.stroke();
  context.fillStyle = ink("--line");
  context.fillRect(0, floor, wide, 1);
  const line = (value, colour_, text) => {
    const place = x(Math.min(high_, Math.max(low, value)));
    context.fillStyle = colour_;
    context.fillRect(place - 1, 10, 2, floor - 10);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = place > wide - 60 ? "right" : "left";
    context.fillText(text, place + (context.textAlign === "left" ? 4 : -4), 9);
  };
  if (judged) line(threshold, ink("--alarm"), "");
  line(data.after[state.superpixel * classCount + id], ink("--ink"), `superpixel ${state.superpixel}`);
  context.fillStyle = ink("--soft");
  context.font = "11px system-ui, sans-serif";
  context.textAlign = "left";
  context.fillText(format(low), 0, high - 3);
  context.textAlign = "right";
  context.fillText(format(high_), wide, high - 3);
}

function updateResponses() {
  const words = element("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = meta.networkClasses
    .map((name, index) => ({ name, index, value: response(state.superpixel, index) }))
    .filter(({ name }) => words.every((word) => name.toLowerCase().includes(word)));
  const shown = found.sort((a, b) => b.value - a.value || strongest[b.index] - strongest[a.index]).slice(0, MOST_RESPONSES);
  const most = Math.max(...meta.networkClasses.map((_, index) => response(state.superpixel, index)), 1e-9);
  element("responses").replaceChildren(
    ...shown.map(({ name, index, value }) => {
      const strength = bar("");
      placeBar(strength, 0, (100 * value) / most);
      const row = make("div", "row thin", make("span", "name", make("span", "", name)), make("span", "track", strength), make("span", "value", percent(value)));
      row.setAttribute("aria-selected", String(state.network === index));
      row.title = name;
      clickable(row, "option", () => change({ network: index, layer: "classMap" }));
      return row;
    }),
  );
  const all = found.length > shown.length ? `the ${shown.length} strongest of ${found.length}` : `${found.length} found`;
  element("responses-note").textContent = `Share of superpixel ${state.superpixel}'s responses; ${all}.`;
}

const similarityCells = Object.keys(MEASURES).map((measure) => {
  const strength = bar("");
  const value = make("span", "value");
  const cell = make("div", "cell", make("span", "measure", measure), value, make("div", "track", strength));
  cell.title = `${MEASURES[measure]}; click to see it to all`;
  clickable(cell, "button", () => change({ similarity: measure, layer: "similarity" }));
  return { measure, cell, strength, value };
});
element("similarities").append(...similarityCells.map(({ cell }) => cell));

function updateSimilarities() {
  const { superpixel, hover } = state;
  element("similarity-pair").textContent = `Similarity to ${hover === null ? "the superpixel under the pointer" : `superpixel ${hover}`}`;
  for (const { measure, cell, strength, value } of similarityCells) {
    const known = hover === null ? null : similarity(measure, superpixel, hover);
    placeBar(strength, 0, 100 * (known ?? 0));
    value.textContent = known === null ? "–" : format(known, digitsFor(known));
    cell.setAttribute("aria-pressed", String(state.layer === "similarity" && state.similarity === measure));
  }
}
