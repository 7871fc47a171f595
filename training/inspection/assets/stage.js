// The frame, what lies over it, and its lines, on one canvas in the screen's own pixels; zoom, pan and pointing.

const canvas = element("canvas");
const view = { scale: 1, left: 0, top: 0, fitted: true };
const FARTHEST = 24;

const overlay = make("canvas");
const grey = make("canvas");
for (const layer of [overlay, grey]) [layer.width, layer.height] = [width, height];
const overlayContext = overlay.getContext("2d");

const frameImage = element("frame-image");
await frameImage.decode();
const greyContext = grey.getContext("2d");
greyContext.drawImage(frameImage, 0, 0);
greyContext.globalCompositeOperation = "saturation";
greyContext.fillStyle = "hsl(0 0% 50%)";
greyContext.fillRect(0, 0, width, height);

// Lines along pixel borders on whose two sides `differ(first, second)` holds for the superpixels there.
function boundary(differ, rows = [0, height], columns = [0, width]) {
  const path = new Path2D();
  const outside = -1;
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? outside : data.superpixels[y * width + x]);
  for (let y = rows[0]; y <= rows[1]; y++) {
    for (let x = columns[0], start = null; x <= columns[1]; x++) {
      const edge = x < columns[1] && differ(at(x, y), at(x, y - 1));
      if (edge && start === null) start = x;
      if (!edge && start !== null) {
        path.moveTo(start, y);
        path.lineTo(x, y);
        start = null;
      }
    }
  }
  for (let x = columns[0]; x <= columns[1]; x++) {
    for (let y = rows[0], start = null; y <= rows[1]; y++) {
      const edge = y < rows[1] && differ(at(x, y), at(x - 1, y));
      if (edge && start === null) start = y;
      if (!edge && start !== null) {
        path.moveTo(x, start);
        path.lineTo(x, y);
        start = null;
      }
    }
  }
  return path;
}

const boxes = (() => {
  const found = Array.from({ length: count }, () => [height, 0, width, 0]);
  data.superpixels.forEach((superpixel, pixel) => {
    const [x, y] = [pixel % width, Math.floor(pixel / width)];
    const box = found[superpixel];
    [box[0], box[1]] = [Math.min(box[0], y), Math.max(box[1], y + 1)];
    [box[2], box[3]] = [Math.min(box[2], x), Math.max(box[3], x + 1)];
  });
  return found;
})();

function remembered(compute) {
  const known = new Map();
  return (key) => known.get(key) ?? known.set(key, compute(key)).get(key);
}

const allBorders = remembered(() => boundary((a, b) => a !== b && a >= 0 && b >= 0));
const outline = remembered((i) => {
  const [top, bottom, left, right] = boxes[i];
  return boundary((a, b) => (a === i) !== (b === i), [top, bottom], [left, right]);
});
const labelledOutline = remembered((id) => {
  const labelled = (i) => i >= 0 && data.label[i] === id;
  return boundary((a, b) => labelled(a) !== labelled(b));
});

function fit() {
  const { clientWidth, clientHeight } = canvas;
  view.scale = Math.min(clientWidth / width, clientHeight / height);
  view.left = (clientWidth - width * view.scale) / 2;
  view.top = (clientHeight - height * view.scale) / 2;
  view.fitted = true;
}

function zoom(factor, x = canvas.clientWidth / 2, y = canvas.clientHeight / 2) {
  const smallest = Math.min(canvas.clientWidth / width, canvas.clientHeight / height);
  const scale = Math.min(FARTHEST, view.scale * factor);
  if (scale <= smallest) return fit();
  view.left = x - ((x - view.left) * scale) / view.scale;
  view.top = y - ((y - view.top) * scale) / view.scale;
  view.scale = scale;
  view.fitted = false;
}

function toFrame(event) {
  const box = canvas.getBoundingClientRect();
  return [(event.clientX - box.left - view.left) / view.scale, (event.clientY - box.top - view.top) / view.scale];
}

function draw() {
  const ratio = devicePixelRatio;
  const [wide, high] = [Math.round(canvas.clientWidth * ratio), Math.round(canvas.clientHeight * ratio)];
  if (canvas.width !== wide || canvas.height !== high) [canvas.width, canvas.height] = [wide, high];
  if (view.fitted) fit();
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, wide, high);
  context.setTransform(ratio * view.scale, 0, 0, ratio * view.scale, ratio * view.left, ratio * view.top);
  const covered = state.layer !== "frame" && !state.peek;
  context.imageSmoothingEnabled = ratio * view.scale < 5;
  context.imageSmoothingQuality = "high";
  context.drawImage(covered ? grey : frameImage, 0, 0);
  if (covered) {
    context.globalAlpha = state.opacity;
    context.imageSmoothingEnabled = ratio * view.scale < 1;
    context.drawImage(overlay, 0, 0);
    context.globalAlpha = 1;
  }
  const pixel = 1 / view.scale;
  const stroke = (path, colour, thickness) => {
    context.strokeStyle = colour;
    context.lineWidth = thickness * pixel;
    context.stroke(path);
  };
  context.lineCap = "square";
  if (state.borders) stroke(allBorders("all"), "rgb(255 255 255 / 55%)", 0.8);
  if (covered && LAYERS[state.layer].hatched) {
    stroke(labelledOutline(state.class), "rgb(0 0 0 / 70%)", 3);
    stroke(labelledOutline(state.class), "rgb(255 255 255)", 1.4);
  }
  if (state.hover !== null && state.hover !== state.superpixel) stroke(outline(state.hover), "rgb(255 255 255 / 90%)", 1.2);
  stroke(outline(state.superpixel), "rgb(0 0 0 / 80%)", 5);
  stroke(outline(state.superpixel), "rgb(255 214 10)", 2.4);
  if (state.pixels) drawAnnotated(context, pixel);
}

function drawAnnotated(context, pixel) {
  for (const { class: id, x, y } of meta.annotated) {
    const [middleX, middleY] = [x + 0.5, y + 0.5];
    const ring = (radius, colour, thickness) => {
      context.beginPath();
      context.arc(middleX, middleY, radius * pixel, 0, 2 * Math.PI);
      context.strokeStyle = colour;
      context.lineWidth = thickness * pixel;
      context.stroke();
    };
    ring(6.5, "rgb(0 0 0 / 75%)", 5);
    ring(6.5, "white", 2.4);
    context.font = `600 ${12 * pixel}px system-ui, sans-serif`;
    context.textBaseline = "middle";
    const name = meta.classes[id].name;
    const wide = context.measureText(name).width;
    const right = middleX + 14 * pixel + wide < width;
    const left = right ? middleX + 12 * pixel : middleX - 12 * pixel - wide;
    context.fillStyle = "rgb(0 0 0 / 62%)";
    context.beginPath();
    context.roundRect(left - 4 * pixel, middleY - 9 * pixel, wide + 8 * pixel, 18 * pixel, 4 * pixel);
    context.fill();
    context.fillStyle = "white";
    context.fillText(name, left, middleY + pixel * 0.5);
  }
}

function listenToPointer(onPoint, onSelect, onView) {
  let pressed = null;
  canvas.addEventListener("pointerdown", (event) => {
    pressed = { x: event.clientX, y: event.clientY, left: view.left, top: view.top, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (pressed) {
      const [dx, dy] = [event.clientX - pressed.x, event.clientY - pressed.y];
      pressed.moved ||= Math.hypot(dx, dy) > 4;
      if (pressed.moved && !view.fitted) {
        canvas.classList.add("panning");
        [view.left, view.top] = [pressed.left + dx, pressed.top + dy];
        onView();
      }
    }
    onPoint(...toFrame(event));
  });
  canvas.addEventListener("pointerup", (event) => {
    canvas.classList.remove("panning");
    if (pressed && !pressed.moved) onSelect(superpixelAt(...toFrame(event)));
    pressed = null;
  });
  canvas.addEventListener("pointercancel", () => (pressed = null));
  canvas.addEventListener("pointerleave", () => onPoint(-1, -1));
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      const box = canvas.getBoundingClientRect();
      zoom(Math.exp(-event.deltaY * 0.0015), event.clientX - box.left, event.clientY - box.top);
      onView();
    },
    { passive: false },
  );
  canvas.addEventListener("dblclick", () => {
    fit();
    onView();
  });
  new ResizeObserver(onView).observe(canvas);
}
