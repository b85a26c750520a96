"use strict";
// A film of a series: one slice of each plane, volume by volume, before and after.
// All text from outside arrives as data and leaves as text nodes.

const { planes, numbers, packing } = JSON.parse(document.getElementById("data").textContent).film;
const $ = (id) => document.getElementById(id);
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
const POSES = ["before", "after"];
const views = []; // a canvas each, with the pixels of all its frames
let frame = 0;
let timer;

async function load(plane, pose) {
  const picture = new Image();
  picture.src = plane.sheets[pose];
  await picture.decode();
  const sheet = document.createElement("canvas");
  [sheet.width, sheet.height] = [picture.width, picture.height];
  const context = sheet.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const [wide, high] = plane.shape;
  const frames = numbers.map((_, k) => context.getImageData(
    (k % plane.columns) * plane.tile[0], Math.floor(k / plane.columns) * plane.tile[1], wide, high));
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height, canvas.className] = [wide, high, "plane film"];
  canvas.id = `${plane.name}-${pose}`;
  canvas.setAttribute("role", "img");
  const caption = document.createElement("figcaption");
  caption.textContent = `${plane.name}, ${pose}`;
  const figure = document.createElement("figure");
  figure.append(caption, canvas);
  return { plane, pose, canvas, frames, figure };
}

// Brighter or darker than in the first frame, about a middle grey.
function changed(now, first) {
  const out = new ImageData(now.width, now.height);
  for (let i = 0; i < now.data.length; i += 4) {
    out.data.fill(128 + 2 * (now.data[i] - first.data[i]), i, i + 3);
    out.data[i + 3] = 255;
  }
  return out;
}

function draw() {
  const number = numbers[frame];
  for (const { plane, pose, canvas, frames } of views) {
    const shown = $("change").checked ? changed(frames[frame], frames[0]) : frames[frame];
    canvas.getContext("2d").putImageData(shown, 0, 0);
    canvas.setAttribute("aria-label", `${plane.name} slice of volume ${number}, ${pose}; ` +
      `${plane.left} is on the left of the picture`);
  }
  $("volume").value = frame;
  $("said").textContent = `${number} (${frame + 1} of ${numbers.length})`;
  $("told").textContent = `${$("rate").value} / s`;
  for (const line of document.querySelectorAll(".cursor")) {
    const x = Number(line.dataset.left) + Number(line.dataset.step) * number;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  }
}

function go(to) {
  frame = (to + numbers.length) % numbers.length;
  draw();
}

function run(on) {
  clearInterval(timer);
  timer = on ? setInterval(() => go(frame + 1), 1000 / Number($("rate").value)) : undefined;
  $("play").setAttribute("aria-pressed", String(on));
}

async function main() {
  views.push(...await Promise.all(POSES.flatMap((pose) => planes.map((plane) => load(plane, pose)))));
  $("planes").append(...views.map((view) => view.figure));
  $("planes").style.gridTemplateColumns = planes.map((plane) => `${plane.shape[0]}fr`).join(" ");
  $("volume").max = numbers.length - 1;
  $("legend").textContent = "Left is left. Above by the headers, below in line, both read " +
    `linearly on small cubes (${packing}); nothing here is for diagnosis.`;
  $("play").addEventListener("click", () => run(!timer));
  $("volume").addEventListener("input", () => go(Number($("volume").value)));
  $("rate").addEventListener("input", () => { if (timer) run(true); draw(); });
  $("change").addEventListener("change", draw);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, button")) return;
    if (event.key === " ") run(!timer);
    else if (event.key === "ArrowRight") go(frame + 1);
    else if (event.key === "ArrowLeft") go(frame - 1);
    else return;
    event.preventDefault();
  });
  $("viewer").hidden = false;
  draw();
  if (!calm) run(true);
  document.documentElement.dataset.ready = "yes";
}

main();
