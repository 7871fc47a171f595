// What the page holds: names and sizes in `meta`, typed arrays in `data`, and the ways to ask them.

const element = (id) => document.getElementById(id);
const meta = JSON.parse(element("meta").textContent);
const TYPES = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, float32: Float32Array };
const IGNORED = 255;

async function unpack(holder) {
  const text = atob(holder.textContent);
  const packed = new Uint8Array(text.length);
  for (let index = 0; index < text.length; index++) packed[index] = text.charCodeAt(index);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new TYPES[holder.dataset.type](await new Response(stream).arrayBuffer());
}

const holders = [...document.querySelectorAll("script[id^=array-]")];
const unpacked = await Promise.all(holders.map(unpack));
const data = Object.fromEntries(holders.map((holder, index) => [holder.id.slice("array-".length), unpacked[index]]));
holders.forEach((holder) => holder.remove());

const { width, height, count } = meta;
const classCount = meta.classes.length;
const networkCount = meta.networkClasses.length;
// Whether scores are held against thresholds; else the highest is the label.
const judged = meta.classes.some((entry) => entry.threshold !== null);

// A superpixel's number at a position of the frame, null outside.
function superpixelAt(x, y) {
  const inside = x >= 0 && y >= 0 && x < width && y < height;
  return inside ? data.superpixels[Math.floor(y) * width + Math.floor(x)] : null;
}

const annotatedHere = meta.annotated.map(({ x, y }) => superpixelAt(x, y));

// From the upper triangle of a symmetric matrix, row by row, of roots, as `packing.upper_triangle` lays it out.
function similarity(measure, first, second) {
  const [i, j] = first < second ? [first, second] : [second, first];
  return data[measure][i * count - (i * (i - 1)) / 2 + (j - i)] ** 2 / 255 ** 2;
}

const column = (matrix, columns, index) => Float32Array.from({ length: count }, (_, i) => matrix[i * columns + index]);
const similarityRow = (measure, i) => Float32Array.from({ length: count }, (_, j) => similarity(measure, i, j));
const response = (i, index) => (data.responses[i * networkCount + index] / 255) * data.mostResponse[index];
const responseRow = (index) => Float32Array.from({ length: count }, (_, i) => response(i, index));

function className(id) {
  return id === IGNORED ? "unlabelled" : meta.classes[id].name;
}

function classColour(id) {
  return id === IGNORED ? [40, 40, 40] : meta.classes[id].colour;
}

// True classes of a superpixel's pixels and their shares, the largest first; empty without a truth.
const trueShares = (() => {
  if (!data.truth) return () => [];
  const votes = new Uint32Array(count * 256);
  data.superpixels.forEach((superpixel, pixel) => votes[superpixel * 256 + data.truth[pixel]]++);
  return (i) =>
    [...votes.subarray(i * 256, (i + 1) * 256)]
      .map((number, id) => ({ id, share: number / data.area[i] }))
      .filter((entry) => entry.share > 0)
      .sort((a, b) => b.share - a.share);
})();

const format = (value, digits = 2) => value.toFixed(digits).replace("-", "−");
// Decimals that tell values apart which differ by so much in all.
const digitsFor = (span) => (span < 0.1 ? 4 : 2);
const percent = (share) => `${format(100 * share, share < 0.0995 ? 1 : 0)}\u202f%`;

function extent(...lists) {
  let [low, high] = [Infinity, -Infinity];
  for (const values of lists) {
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
  }
  return [low, high];
}

// Shorthand for an element with a class, a text and children.
function make(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

// Let a click, or Enter where the keyboard is, do something.
function clickable(made, role, action) {
  made.setAttribute("role", role);
  made.tabIndex = 0;
  made.addEventListener("click", action);
  made.addEventListener("keydown", (event) => event.key === "Enter" && action());
}

function swatch(colour) {
  const made = make("span", "swatch");
  made.style.background = `rgb(${colour.join(" ")})`;
  return made;
}
