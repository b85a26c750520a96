"use strict";
// The viewer of one pair. All text from outside arrives as data and leaves as text nodes.
// Volumes are grey levels (0: no data) on one grid of cubes along the axes of the world:
// index x + nx * (y + ny * z), x to the right, y to the front, z up.

const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const { shape, origin_mm: origin, step_mm: step, voxels } = data.viewer;
const volumes = {}; // fixed, after, before
const ranks = {}; // of grey levels in the anatomy, 0 to 1

// Planes: axes that run to the right and up on the screen, and the one through it.
const PLANES = [["axial", 0, 1, 2], ["coronal", 0, 2, 1], ["sagittal", 1, 2, 0]]
  .map(([name, u, v, w]) => ({ name, u, v, w }));
const LETTERS = [["L", "R"], ["P", "A"], ["I", "S"]];
const SIDES = [["left", "right"], ["back", "front"], ["down", "up"]];
const ORANGE = [255, 150, 20];
const CYAN = [70, 220, 255];

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const clampIndex = (index, axis) => clamp(Math.round(index), 0, shape[axis] - 1);
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const start = () => ({
  mode: "fade",
  pose: "after", // or before, or both
  at: data.viewer.place_mm.map((mm, axis) => clampIndex((mm - origin[axis]) / step, axis)),
  fade: 0.5,
  square: 30, // mm
  rate: 1, // changes in a second
  running: !calm,
  flipped: false, // shows the moving image, or the position before
  detail: 0.3, // share of the edges that are drawn
  radiological: false,
  crosshair: true,
  edges: false, // of the fixed image, whatever else is shown
  zoom: 1,
  middle: shape.map((n) => (n - 1) / 2), // of what is seen
  residuals: false,
  tool: "place",
  window: { fixed: [...data.viewer.fixed.window], moving: [...data.viewer.moving.window] },
});
let state = start();

// --- modes: what a pixel shows, from the grey of fixed and moving --------------------

// pixel(fixed, moving, x, y, plane): grey 0 to 255; fixed or moving is -1 where it ends.
const seen = (grey) => Math.max(grey, 0);
const MODES = {
  fade: {
    key: "f", words: "fixed and moving image, one faded into the other",
    pixel: (f, m) => (m < 0 ? seen(f) : f < 0 ? m : f + (m - f) * state.fade),
  },
  flicker: {
    key: "k", words: "fixed and moving image in turn", timed: true,
    pixel: (f, m) => seen(state.flipped ? m : f),
  },
  checker: {
    key: "c", words: "checkerboard of fixed and moving image",
    pixel: (f, m, x, y) => seen(isMovingSquare(x, y) ? m : f),
  },
  split: {
    key: "s", words: "fixed image to the left of the cross-hair, moving image to the right",
    pixel: (f, m, x, y, plane) => seen(onScreen(x - state.at[plane.u], plane) > 0 ? m : f),
  },
  contours: { key: "o", words: "fixed image with the edges of the moving one", pixel: seen, lines: "moving" },
  reverse: { key: "v", words: "moving image with the edges of the fixed one", pixel: (f, m) => seen(m), lines: "fixed" },
  ranks: { key: "d", words: "difference of the grey-level ranks" },
  poses: {
    key: "p", words: "moving image before and after in turn, with the edges of the fixed one",
    pixel: (f, m) => seen(m), lines: "fixed", timed: true,
  },
};
const POSES = ["after", "before", "both"];
const TOOLS = ["place", "fixed", "moving"];

function isMovingSquare(x, y) {
  const side = Math.max(1, Math.round(state.square / step));
  return (Math.floor(x / side) + Math.floor(y / side)) % 2 === 1;
}

// Turns a step to the patient's right or front into one to the right of the screen.
const isMirrored = (plane) => state.radiological && plane.u === 0;
const onScreen = (rightward, plane) => (isMirrored(plane) ? -rightward : rightward);
const mmAt = (axis) => origin[axis] + step * state.at[axis];
const mapped = (rows, point) =>
  rows.slice(0, 3).map((r) => r[0] * point[0] + r[1] * point[1] + r[2] * point[2] + r[3]);

// --- volumes -------------------------------------------------------------------------

async function load(name) {
  const picture = new Image();
  picture.src = data.viewer.sheets[name];
  await picture.decode();
  const sheet = document.createElement("canvas");
  [sheet.width, sheet.height] = [picture.width, picture.height];
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, sheet.width, sheet.height).data;
  const [[nx, ny, nz], [wide, high]] = [shape, data.viewer.tile];
  const volume = new Uint8Array(nx * ny * nz);
  const { ijk_from_mm: rows, shape: size } = voxels[name];
  for (let z = 0, out = 0; z < nz; z++) {
    const [left, top] = [(z % data.viewer.columns) * wide, Math.floor(z / data.viewer.columns) * high];
    for (let y = 0; y < ny; y++, out += nx) {
      const from = 4 * ((top + y) * sheet.width + left);
      const first = mapped(rows, [origin[0], origin[1] + step * y, origin[2] + step * z]);
      // Compression blurs where an image ends, so that is worked out again, row by row.
      let [begin, end] = [0, nx - 1];
      for (let axis = 0; axis < 3; axis++) {
        const by = rows[axis][0] * step || 1e-12;
        const [one, other] = [(-0.5001 - first[axis]) / by, (size[axis] - 0.4999 - first[axis]) / by];
        begin = Math.max(begin, Math.ceil(Math.min(one, other)));
        end = Math.min(end, Math.floor(Math.max(one, other)));
      }
      for (let x = begin; x <= end; x++) volume[out + x] = Math.max(pixels[from + 4 * x], 1);
    }
  }
  volumes[name] = volume;
}

// A slice as rows from the bottom up: y * width + x.
function slice(name, plane, index = state.at[plane.w]) {
  const strides = [1, shape[0], shape[0] * shape[1]];
  const [wide, high] = [shape[plane.u], shape[plane.v]];
  const out = new Uint8Array(wide * high);
  for (let y = 0, i = 0; y < high; y++) {
    let from = index * strides[plane.w] + y * strides[plane.v];
    for (let x = 0; x < wide; x++, i++, from += strides[plane.u]) out[i] = volumes[name][from];
  }
  return out;
}

const levelsOf = (name) => data.viewer[name === "fixed" ? "fixed" : "moving"];
const isAnatomy = (level, of) => level > 0 && Math.abs(level - of.background) > of.threshold;

// Ranks of the grey levels of the anatomy; the background is 0.
function rank(name) {
  let [of, counts] = [levelsOf(name), new Float64Array(256)];
  for (let i = 0, volume = volumes[name]; i < volume.length; i++) counts[volume[i]]++;
  counts = counts.map((count, level) => (isAnatomy(level, of) ? count : 0));
  const total = counts.reduce((a, b) => a + b) || 1;
  let below = 0;
  ranks[name] = Float64Array.from(counts, (count) => {
    const middle = (below + count / 2) / total;
    below += count;
    return count ? middle : 0;
  });
}

// Where bright is dark in the other image, ranks of the moving one are turned round.
function areOpposite() {
  let sum = 0;
  for (let i = 0; i < volumes.fixed.length; i += 5) { // enough of them
    const [f, m] = [ranks.fixed[volumes.fixed[i]], ranks.after[volumes.after[i]]];
    if (f && m) sum += (f - 0.5) * (m - 0.5);
  }
  return sum < 0;
}

// --- pictures ------------------------------------------------------------------------

function greys(name) {
  const [low, high] = state.window[name];
  const scale = 255 / Math.max(high - low, 1);
  return Float64Array.from({ length: 256 }, (_, level) =>
    level === 0 ? -1 : clamp((level - low) * scale, 0, 255));
}

function paint(plane, pose) {
  const [wide, high] = [shape[plane.u], shape[plane.v]];
  const [f, m] = [slice("fixed", plane), slice(pose, plane)];
  const [ofFixed, ofMoving] = [greys("fixed"), greys("moving")];
  const picture = new ImageData(wide, high);
  for (let row = 0, i = 0; row < high; row++) {
    for (let column = 0; column < wide; column++, i += 4) {
      const [x, y] = [isMirrored(plane) ? wide - 1 - column : column, high - 1 - row];
      const at = y * wide + x;
      if (state.mode === "ranks") {
        picture.data.set(rankColour(f[at], m[at], pose), i);
      } else {
        const grey = MODES[state.mode].pixel(ofFixed[f[at]], ofMoving[m[at]], x, y, plane);
        picture.data.fill(grey, i, i + 3);
      }
      picture.data[i + 3] = 255;
    }
  }
  return picture;
}

function rankColour(f, m, pose) {
  if (f === 0 || m === 0) return [0, 0, 0];
  const [a, b] = [ranks.fixed[f], ranks[pose][m]];
  const difference = a - (b && data.opposite ? 1 - b : b);
  const towards = difference > 0 ? CYAN : ORANGE;
  return towards.map((end) => 50 + (end - 50) * Math.abs(difference));
}

// Edges: where the Laplacian of the blurred slice is zero and the gradient is steep, as
// pieces of lines [x1, y1, x2, y2, steepness] in voxels.
const edgesKept = new Map();
function edges(name, plane, index = state.at[plane.w]) {
  const key = `${name} ${plane.name} ${index}`;
  if (edgesKept.has(key)) return edgesKept.get(key);
  const [wide, high] = [shape[plane.u], shape[plane.v]];
  const levels = slice(name, plane, index);
  const inside = blurred(Float64Array.from(levels, (level) => (level ? 1 : 0)), wide, high);
  const smooth = blurred(Float64Array.from(levels), wide, high);
  for (let i = 0; i < smooth.length; i++) smooth[i] = levels[i] ? smooth[i] / inside[i] : NaN;
  const bend = new Float64Array(smooth.length).fill(NaN);
  const steep = new Float64Array(smooth.length);
  for (let y = 1; y < high - 1; y++) {
    for (let x = 1, i = y * wide + 1; x < wide - 1; x++, i++) {
      const [l, r, d, u] = [smooth[i - 1], smooth[i + 1], smooth[i - wide], smooth[i + wide]];
      bend[i] = l + r + d + u - 4 * smooth[i];
      steep[i] = Math.hypot(r - l, u - d);
    }
  }
  const pieces = [];
  for (let y = 1; y < high - 2; y++) {
    for (let x = 1; x < wide - 2; x++) {
      const i = y * wide + x;
      const [a, b, c, d] = [bend[i], bend[i + 1], bend[i + wide + 1], bend[i + wide]];
      const ends = [];
      if (a < 0 !== b < 0) ends.push([x + a / (a - b), y]);
      if (b < 0 !== c < 0) ends.push([x + 1, y + b / (b - c)]);
      if (d < 0 !== c < 0) ends.push([x + d / (d - c), y + 1]);
      if (a < 0 !== d < 0) ends.push([x, y + a / (a - d)]);
      if (ends.length < 2 || Number.isNaN(a + b + c + d)) continue;
      for (let k = 0; k + 1 < ends.length; k += 2) pieces.push([...ends[k], ...ends[k + 1], steep[i]]);
    }
  }
  if (edgesKept.size > 60) edgesKept.clear();
  edgesKept.set(key, pieces);
  return pieces;
}

function blurred(values, wide, high) {
  const bell = [0.06, 0.24, 0.4, 0.24, 0.06];
  let from = values;
  for (const [stride, n] of [[1, wide], [wide, high]]) {
    const out = new Float64Array(values.length);
    for (let i = 0; i < out.length; i++) {
      const place = stride === 1 ? i % wide : Math.floor(i / wide);
      for (let k = -2; k <= 2; k++) {
        out[i] += bell[k + 2] * from[i + (clamp(place + k, 0, n - 1) - place) * stride];
      }
    }
    from = out;
  }
  return from;
}

// How steep an edge must be to be drawn: by the edges in the three middle slices.
const steepnesses = {};
function threshold(name) {
  steepnesses[name] ??= PLANES.flatMap((plane) =>
    edges(name, plane, clampIndex((data.viewer.place_mm[plane.w] - origin[plane.w]) / step, plane.w))
      .map((piece) => piece[4])).sort((a, b) => a - b);
  const all = steepnesses[name];
  return all[Math.min(Math.floor((1 - state.detail) * all.length), all.length - 1)] ?? 0;
}

// --- drawing -------------------------------------------------------------------------

const scratch = document.createElement("canvas");
const lines = () => MODES[state.mode].lines ?? (state.edges && "fixed");

// The part of a plane that is seen, in its pixels: left, top, width, height. It follows
// the cross-hair where that nears its border, and ends where the plane does.
function part(plane) {
  const [[wide, left], [high, bottom]] = [plane.u, plane.v].map((axis) => {
    const [at, size] = [state.at[axis], shape[axis] / state.zoom];
    const near = clamp(state.middle[axis], at - 0.4 * size, at + 0.4 * size);
    state.middle[axis] = clamp(near, (size - 1) / 2, shape[axis] - (size + 1) / 2);
    return [size, state.middle[axis] + 0.5 - size / 2];
  });
  const [fromRight, top] = [shape[plane.u] - left - wide, shape[plane.v] - bottom - high];
  return [isMirrored(plane) ? fromRight : left, top, wide, high];
}

function drawPlane(canvas, plane, pose) {
  const [wide, high] = [shape[plane.u], shape[plane.v]];
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
  canvas.height = Math.max(1, Math.round((canvas.width * high) / wide));
  const context = canvas.getContext("2d");
  const [left, top, ...size] = part(plane);
  const scale = canvas.width / size[0];
  [scratch.width, scratch.height] = [wide, high];
  scratch.getContext("2d").putImageData(paint(plane, pose), 0, 0);
  context.imageSmoothingQuality = "high";
  context.drawImage(scratch, left, top, ...size, 0, 0, canvas.width, canvas.height);
  const toX = (x) => ((isMirrored(plane) ? wide - 0.5 - x : x + 0.5) - left) * scale;
  const toY = (y) => (high - 0.5 - y - top) * scale;
  if (lines()) {
    const name = lines() === "moving" ? pose : "fixed";
    const [least, colour] = [threshold(name), name === "fixed" ? CYAN : ORANGE];
    const drawn = edges(name, plane).filter((piece) => piece[4] >= least);
    stroke(context, `rgb(${colour})`, 1.1 * ratio, drawn.map(([x1, y1, x2, y2]) => [toX(x1), toY(y1), toX(x2), toY(y2)]));
  }
  if (state.residuals && pose === "after") drawResiduals(context, plane, toX, toY, ratio);
  if (state.crosshair) {
    const [x, y, gap] = [toX(state.at[plane.u]), toY(state.at[plane.v]), 6 * ratio];
    stroke(context, "rgba(90, 255, 130, 0.7)", ratio, [
      [0, y, x - gap, y], [x + gap, y, canvas.width, y],
      [x, 0, x, y - gap], [x, y + gap, x, canvas.height],
    ]);
  }
  drawLetters(context, plane, ratio, scale);
  const way = (axis) => LETTERS[axis][isMirrored(plane) && axis === plane.u ? 1 : 0];
  canvas.setAttribute("aria-label",
    `${plane.name} slice, ${pose} registration, at ${inWords(plane.w)}: ` +
    `${MODES[state.mode].words}. On the left of the picture is ${way(plane.u)}.`);
}

function stroke(context, colour, width, pieces) {
  [context.strokeStyle, context.lineWidth] = [colour, width];
  context.beginPath();
  for (const [x1, y1, x2, y2] of pieces) {
    context.moveTo(x1, y1);
    context.lineTo(x2, y2);
  }
  context.stroke();
}

function drawLetters(context, plane, ratio, scale) {
  const { width, height } = context.canvas;
  const [left, right] = isMirrored(plane) ? ["R", "L"] : LETTERS[plane.u];
  const [bottom, top] = LETTERS[plane.v];
  // Where an I has serifs: else it is a bar.
  context.font = `700 ${14 * ratio}px ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace`;
  const write = (words, x, y, align) => {
    [context.textAlign, context.textBaseline] = [align, "middle"];
    // On a ground of its own, over edges and the cross-hair.
    const [wide, high] = [context.measureText(words).width + 4 * ratio, 17 * ratio];
    const left = align === "left" ? x - 2 * ratio : align === "right" ? x + 2 * ratio - wide : x - wide / 2;
    context.fillStyle = "rgba(0, 0, 0, 0.75)";
    context.fillRect(left, y - high / 2, wide, high);
    context.fillStyle = "#ffe14d";
    context.fillText(words, x, y);
  };
  const edge = 10 * ratio;
  write(left, edge / 2, height / 2, "left");
  write(right, width - edge / 2, height / 2, "right");
  write(top, width / 2, edge, "center");
  write(bottom, width / 2, height - edge, "center");
  const mm = [100, 50, 20, 10, 5, 2, 1].find((one) => (one / step) * scale < width / 4);
  if (mm === undefined) return;
  const long = (mm / step) * scale;
  stroke(context, "#ffe14d", 2 * ratio, [[edge, height - edge, edge + long, height - edge]]);
  write(`${mm} mm`, edge, height - 2 * edge, "left");
}

// Arrows five times as long as the shifts, from blocks near the slice.
function drawResiduals(context, plane, toX, toY, ratio) {
  const index = (mm, axis) => (mm - origin[axis]) / step;
  for (const { at, shift, error } of data.residuals) {
    if (Math.abs(index(at[plane.w], plane.w) - state.at[plane.w]) * step > 12) continue;
    const [x, y] = [toX(index(at[plane.u], plane.u)), toY(index(at[plane.v], plane.v))];
    const far = at.map((mm, axis) => mm + 5 * shift[axis]);
    const sure = Math.hypot(...shift) > 2 * error;
    const colour = sure ? "#ff5e5e" : "#9be27c";
    stroke(context, colour, 2 * ratio, [[x, y, toX(index(far[plane.u], plane.u)), toY(index(far[plane.v], plane.v))]]);
    context.fillStyle = colour;
    context.beginPath();
    context.arc(x, y, 2.5 * ratio, 0, 7);
    context.fill();
  }
}

function inWords(axis) {
  const mm = mmAt(axis);
  return `${Math.abs(mm).toFixed(1)} mm ${SIDES[axis][mm < 0 ? 0 : 1]}`;
}

let waiting = false;
function draw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    const { mode } = state;
    const poses = mode === "poses" ? [state.flipped ? "before" : "after"]
      : state.pose === "both" ? ["after", "before"] : [state.pose];
    for (const view of views) {
      view.figures.forEach((figure, k) => {
        figure.hidden = k >= poses.length;
        if (figure.hidden) return;
        figure.querySelector("figcaption").textContent =
          `${view.plane.name}, ${poses[k] === "after" ? "after" : "before (by the headers)"}`;
        drawPlane(figure.querySelector("canvas"), view.plane, poses[k]);
      });
      for (const input of view.inputs) input.value = state.at[view.plane.w];
    }
    const place = [0, 1, 2].map(mmAt);
    const at = ["fixed", poses[0]].map((name) => {
      const ijk = mapped(voxels[name].ijk_from_mm, place).map(Math.round);
      const size = voxels[name].shape;
      const inside = ijk.every((index, axis) => index >= 0 && index < size[axis]);
      return `${name === "fixed" ? "fixed" : "moving"} ${inside ? `voxel ${ijk.join(", ")}` : "image ends before"}`;
    });
    $("place").textContent =
      `${[0, 1, 2].map(inWords).join(", ")} (RAS ${place.map((mm) => mm.toFixed(1)).join(" ")}); ${at.join("; ")}`;
    $("legend").textContent = legend();
    for (const button of document.querySelectorAll("[data-mode], [data-pose]")) {
      button.setAttribute("aria-pressed", String([mode, state.pose].includes(button.dataset.mode ?? button.dataset.pose)));
    }
  });
}

function legend() {
  const side = state.radiological
    ? "Radiological: the patient's left is on the right." : "Neurological: left is left.";
  const more = {
    poses: ` Shown: moving image ${state.flipped ? "before" : "after"}.`,
    flicker: ` Shown: ${state.flipped ? "moving" : "fixed"} image.`,
    ranks: ` Blue: brighter in the fixed image, orange: in the moving one${data.opposite
      ? ", whose ranks are turned round, since the contrasts are opposite" : ""}.`,
  };
  const arrows = state.residuals
    ? " Arrows: where parts would fit better, five times as long; red where that is twice its error." : "";
  const of = lines() ? ` Edges of the ${lines()} image are ${lines() === "moving" ? "orange" : "blue"}.` : "";
  return `${side}${more[state.mode] ?? ""}${of}${arrows} Shown in cubes of ${step.toFixed(2)} mm (${data.viewer.packing}); nothing here is for diagnosis.`;
}

// --- controls ------------------------------------------------------------------------

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

let timer;
function run() {
  clearInterval(timer);
  if (!MODES[state.mode].timed || !state.running) return;
  timer = setInterval(() => { state.flipped = !state.flipped; draw(); }, 1000 / state.rate);
}

function setMode(name) {
  Object.assign(state, { mode: name, flipped: false });
  $("spoken").textContent = MODES[name].words;
  refresh();
}

function move(axis, index) {
  state.at[axis] = clampIndex(index, axis);
  draw();
}

// Brings all controls in line with the state, and draws.
function refresh() {
  for (const label of document.querySelectorAll("[data-for]")) {
    const on = [state.mode, state.edges && "edges"];
    label.hidden = !label.dataset.for.split(" ").some((name) => on.includes(name));
  }
  for (const name of BOXES) $(name).checked = state[name];
  for (const name of SLIDERS) {
    $(name).value = state[name];
    $(name).nextElementSibling.textContent = `${Math.round(state[name] * $(name).dataset.times * 10) / 10} ${$(name).dataset.unit}`;
  }
  $("tool").value = state.tool;
  $("zoom").firstElementChild.textContent = state.zoom;
  run();
  draw();
}

const TOGGLES = { r: "radiological", x: "crosshair", e: "edges" };
const BOXES = ["radiological", "crosshair", "edges", "residuals", "running"];
const SLIDERS = ["fade", "square", "rate", "detail"];
const views = [];

function buildViewer() {
  const set = (values) => { Object.assign(state, values); refresh(); };
  for (const button of document.querySelectorAll("[data-mode]")) {
    button.addEventListener("click", () => setMode(button.dataset.mode));
  }
  for (const button of document.querySelectorAll("[data-pose]")) {
    button.addEventListener("click", () => set({ pose: button.dataset.pose }));
  }
  for (const name of BOXES) $(name).addEventListener("change", () => set({ [name]: $(name).checked }));
  for (const name of SLIDERS) $(name).addEventListener("input", () => set({ [name]: Number($(name).value) }));
  $("tool").addEventListener("change", () => set({ tool: $("tool").value }));
  $("reset").addEventListener("click", () => set(start()));
  $("zoom").addEventListener("click", () => set(closer()));
  $("residuals").parentElement.hidden = !data.residuals?.length;
  views.push(...PLANES.map(buildView));
  $("planes").append(...[0, 1].flatMap((k) => views.map((view) => view.figures[k])));
  $("planes").style.gridTemplateColumns = PLANES.map((plane) => `${shape[plane.u]}fr`).join(" ");
}

function buildView(plane) {
  const inputs = [];
  const figures = [0, 1].map((k) => {
    const canvas = element("canvas", {
      class: "plane", id: `${plane.name}${k ? "-before" : ""}`, tabindex: "0", role: "img",
      "aria-describedby": "place",
    });
    canvas.style.aspectRatio = `${shape[plane.u]} / ${shape[plane.v]}`;
    listen(canvas, plane);
    const input = element("input", {
      type: "range", min: 0, max: shape[plane.w] - 1, step: 1, "aria-label": `slice of the ${plane.name} plane`,
      id: `slice-${plane.name}${k ? "-before" : ""}`,
      oninput: () => move(plane.w, Number(input.value)),
    });
    inputs.push(input);
    return element("figure", {}, element("figcaption"), canvas, input);
  });
  return { plane, figures, inputs };
}

function listen(canvas, plane) {
  let from = null;
  const place = (event) => {
    const [left, top, wide, high] = part(plane);
    const x = left + (event.offsetX / canvas.clientWidth) * wide - 0.5;
    const y = shape[plane.v] - 0.5 - top - (event.offsetY / canvas.clientHeight) * high;
    move(plane.u, isMirrored(plane) ? shape[plane.u] - 1 - x : x);
    move(plane.v, y);
  };
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    const of = state.tool === "place" ? null : state.window[state.tool];
    from = { x: event.clientX, y: event.clientY, window: of && [...of] };
    if (!of) place(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!from) return;
    if (!from.window) return place(event);
    // To the right a wider window, up a higher level.
    const [low, high] = from.window;
    const wide = Math.max(1, (high - low) * Math.exp((event.clientX - from.x) / 150));
    const middle = (low + high) / 2 + ((from.y - event.clientY) * (high - low)) / 300;
    state.window[state.tool] = [middle - wide / 2, middle + wide / 2];
    draw();
  });
  canvas.addEventListener("lostpointercapture", () => { from = null; });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas || event.ctrlKey) return;
    event.preventDefault();
    move(plane.w, state.at[plane.w] - Math.sign(event.deltaY));
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const far = event.shiftKey ? 10 : 1;
    const steps = {
      ArrowLeft: [plane.u, onScreen(-far, plane)], ArrowRight: [plane.u, onScreen(far, plane)],
      ArrowUp: [plane.v, far], ArrowDown: [plane.v, -far],
      PageUp: [plane.w, far], PageDown: [plane.w, -far],
    };
    if (!(event.key in steps)) return;
    event.preventDefault();
    const [axis, by] = steps[event.key];
    move(axis, state.at[axis] + by);
  });
}

const cycle = (list, now) => list[(list.indexOf(now) + 1) % list.length];
const closer = () => ({ zoom: cycle([1, 2, 4], state.zoom), middle: [...state.at] });

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const mode = Object.keys(MODES).find((name) => MODES[name].key === event.key);
  if (mode) setMode(mode);
  else if (event.key === "b") state.pose = cycle(POSES, state.pose);
  else if (event.key in TOGGLES) state[TOGGLES[event.key]] = !state[TOGGLES[event.key]];
  else if (event.key === "z") Object.assign(state, closer());
  else if (event.key === "w") state.tool = cycle(TOOLS, state.tool);
  else if (event.key === "0") state = start();
  else if (event.key === " " && MODES[state.mode].timed && !event.target.closest("input, summary, button:not([data-mode])")) {
    event.preventDefault();
    state.flipped = !state.flipped;
  } else if (["+", "=", "-"].includes(event.key)) {
    const input = document.querySelector("[data-for]:not([hidden]) input[type=range]");
    if (!input) return;
    input[event.key === "-" ? "stepDown" : "stepUp"](Number(input.dataset.steps));
    state[input.id] = Number(input.value);
  } else return;
  refresh();
});

// --- start ---------------------------------------------------------------------------

async function main(choose = () => {}) {
  $("loading").hidden = false;
  await Promise.all(Object.keys(data.viewer.sheets).map(load));
  choose(); // of many images, which are fixed and moving
  Object.keys(volumes).forEach(rank);
  data.opposite = areOpposite();
  buildViewer();
  $("waiting").remove();
  $("viewer").hidden = false;
  new ResizeObserver(draw).observe($("planes"));
  matchMedia("print").addEventListener("change", draw);
  setMode("fade");
  document.documentElement.dataset.ready = "yes";
}
