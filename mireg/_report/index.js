"use strict";

// One page on many pairs. The state is a few plain variables; `draw` shows it.

const data = JSON.parse(document.getElementById("data").textContent);
const at = Object.fromEntries(data.columns.map((column, i) => [column.name, i]));
const $ = (id) => document.getElementById(id);
const SEVERITY = { failed: 0, doubtful: 1, right: 2 };
const ROWS_AT_ONCE = 50;
const PICTURES_AT_ONCE = 24;

const pictured = new Set(data.pictured);
let pictures = {}; // by id; they are read last

let shown = [];
let sortedBy = { name: null, down: false };
let chosen = null;
let rowsShown = ROWS_AT_ONCE;
let picturesShown = PICTURES_AT_ONCE;

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "class") element.className = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const value = (row, name) => row[at[name]];
const idOf = (row) => value(row, "id");

// --- what is shown, and in which order -------------------------------------------------

// Failed ones first, then doubtful ones, then those that stand out; among equals those
// that are more likely wrong.
function badness(row) {
  const severity = SEVERITY[value(row, "verdict")] ?? 1;
  const outlier = value(row, "outlier_in") ? 0 : 1;
  const probability = value(row, "probability") ?? 1;
  const error = value(row, "standard_error_mm") ?? 0;
  return [severity, outlier, probability, -error];
}

function compareLists(a, b) {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
}

function compareValues(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), undefined, { numeric: true });
}

function isWanted(row, words, which) {
  const verdict = value(row, "verdict");
  if (which === "look" && (verdict === "right" || value(row, "decision"))) return false;
  if (which === "outlier" && !value(row, "outlier_in")) return false;
  if (["right", "doubtful", "failed"].includes(which) && verdict !== which) return false;
  const all = row.filter((cell) => typeof cell === "string").join(" ").toLowerCase();
  return words.every((word) => all.includes(word));
}

function select() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const which = $("which").value;
  shown = data.rows.filter((row) => isWanted(row, words, which));
  sort();
  draw();
}

function sort() {
  const worst = new Map(shown.map((row) => [row, badness(row)]));
  shown.sort((a, b) => compareLists(worst.get(a), worst.get(b)));
  if (sortedBy.name !== null) {
    const i = at[sortedBy.name];
    const sign = sortedBy.down ? -1 : 1;
    shown.sort((a, b) => {
      // What is not known comes last, either way.
      if (a[i] === null || b[i] === null) return compareValues(a[i], b[i]);
      return sign * compareValues(a[i], b[i]);
    });
  }
}

function choose(id) {
  chosen = chosen === id ? null : id;
  $("chosen").textContent = chosen === null ? "" : `chosen: ${chosen}`;
  for (const row of $("table").tBodies[0].rows) mark(row, row.dataset.id);
  drawPictures();
  const ink = colours();
  for (const figure of figures) drawMarks(figure, ink);
}

const mark = (element, id) => element.classList.toggle("chosen", id === chosen);

// --- the table -------------------------------------------------------------------------

function drawHead() {
  const row = make("tr");
  for (const column of data.columns) {
    const arrow = sortedBy.name === column.name ? (sortedBy.down ? " ▼" : " ▲") : "";
    const pressed = () => {
      const again = sortedBy.name === column.name;
      sortedBy = { name: column.name, down: again ? !sortedBy.down : column.figure };
      sort();
      drawList();
    };
    const order = arrow ? (sortedBy.down ? "descending" : "ascending") : "none";
    const about = column.unit ? `${column.about}, ${column.unit}` : column.about;
    const button = make("button", { type: "button", title: about, onclick: pressed });
    button.append(column.name + arrow);
    row.append(make("th", { scope: "col", "aria-sort": order }, button));
  }
  document.querySelector("#table thead").replaceChildren(row);
}

function cell(row, column) {
  const content = row[at[column.name]];
  if (column.name === "id" && data.links[content]) {
    const stop = (event) => event.stopPropagation();
    return make("td", {}, make("a", { href: data.links[content], onclick: stop }, content));
  }
  if (content === null) return make("td", {}, "");
  if (typeof content === "number") {
    return make("td", { class: "number" }, String(Number(content.toPrecision(4))));
  }
  const kind = column.name === "verdict" ? content : content.length > 30 ? "words" : "";
  return make("td", { class: kind }, content);
}

// Draws the rows; those `from` there on, if the others stand already.
function drawRows(from = 0) {
  const rows = shown.slice(from, rowsShown).map((row) => {
    const id = idOf(row);
    const attributes = { onclick: () => choose(id), "data-id": id };
    const made = make("tr", attributes, ...data.columns.map((column) => cell(row, column)));
    mark(made, id);
    return made;
  });
  const body = $("table").tBodies[0];
  if (from === 0) body.replaceChildren();
  body.append(...rows);
  $("more-rows").hidden = shown.length <= rowsShown;
}

// --- pictures --------------------------------------------------------------------------

function drawPictures() {
  const having = shown.filter((row) => pictured.has(idOf(row)));
  const first = having.slice(0, picturesShown);
  // The chosen one is seen, wherever it is in the order.
  const looked = having.find((row) => idOf(row) === chosen);
  const all = looked ? [looked, ...first.filter((row) => row !== looked)] : first;
  $("pictures").replaceChildren(...all.map(pictureOf));
  $("more-pictures").hidden = having.length <= picturesShown;
  $("pictures").parentElement.hidden = having.length === 0;
}

function pictureOf(row) {
  const id = idOf(row);
  const verdict = value(row, "verdict");
  const alt = `Edges of the moving image on the fixed one, ${id}: ${verdict}`;
  const picture = make("img", { alt, ...(pictures[id] && { src: pictures[id] }) });
  const name = data.links[id] ? make("a", { href: data.links[id] }, id) : id;
  const says = make("span", { class: verdict }, ` ${verdict}`);
  const caption = make("figcaption", {}, name, says);
  const figure = make("figure", { onclick: () => choose(id) }, picture, caption);
  mark(figure, id);
  return figure;
}

// They stand behind this script in the file, so that nothing else waits for them.
function readPictures() {
  pictures = JSON.parse($("later").textContent);
  drawPictures();
}

// --- distributions ---------------------------------------------------------------------

// Where each pair lies in a figure: along the axis by its value, and stacked above its
// neighbours, so that the dots show the distribution.
function layOut(column, width, height) {
  const known = data.rows.filter((row) => row[at[column.name]] !== null);
  const values = known.map((row) => row[at[column.name]]);
  const low = values.reduce((a, b) => Math.min(a, b), Infinity);
  const high = values.reduce((a, b) => Math.max(a, b), -Infinity);
  const bins = Math.max(10, Math.floor(width / 5));
  const counts = new Array(bins).fill(0);
  const where = known.map((row, i) => {
    const share = high > low ? (values[i] - low) / (high - low) : 0.5;
    const bin = Math.min(bins - 1, Math.floor(share * bins));
    return { row, bin, level: counts[bin]++ };
  });
  const step = Math.min(5, (height - 8) / Math.max(1, ...counts));
  for (const dot of where) {
    dot.x = 5 + ((dot.bin + 0.5) / bins) * (width - 10);
    dot.y = height - 4 - dot.level * step;
  }
  return where;
}

// Places all dots, those that are to be looked at over the others, and keeps the picture.
function drawDots(figure, dots) {
  const { canvas, column } = figure;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (width === 0) return; // nothing is wide on a page that is not seen
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  figure.where = layOut(column, width, height);
  figure.picture = new ImageData(canvas.width, canvas.height);
  const visible = new Set(shown);
  const passes = [[], [], [], []]; // faint or not, right or not
  for (const dot of figure.where) {
    const isRight = value(dot.row, "verdict") === "right";
    passes[2 * visible.has(dot.row) + !isRight].push(dot);
  }
  passes.forEach((those, now) => {
    const alpha = now < 2 ? 0.15 : 1;
    for (const { x, y } of those) stamp(figure.picture, dots[now % 2], x * ratio, y * ratio, alpha);
  });
}

// Pixels of a dot: a canvas is too slow at drawing tens of thousands.
function dotIn(colour) {
  const ratio = window.devicePixelRatio || 1;
  const dot = document.createElement("canvas");
  dot.width = dot.height = Math.ceil(4 * ratio);
  const pen = dot.getContext("2d");
  pen.fillStyle = colour;
  pen.arc(dot.width / 2, dot.width / 2, 2 * ratio, 0, 2 * Math.PI);
  pen.fill();
  return pen.getImageData(0, 0, dot.width, dot.width);
}

function stamp(picture, dot, x, y, alpha) {
  const [left, top] = [Math.round(x - dot.width / 2), Math.round(y - dot.height / 2)];
  const [pixels, of] = [picture.data, dot.data];
  for (let row = 0, from = 0; row < dot.height; row++) {
    let to = 4 * ((top + row) * picture.width + left);
    for (let column = 0; column < dot.width; column++, from += 4, to += 4) {
      const opaque = alpha * of[from + 3];
      if (opaque === 0 || opaque < pixels[to + 3]) continue;
      pixels[to] = of[from];
      pixels[to + 1] = of[from + 1];
      pixels[to + 2] = of[from + 2];
      pixels[to + 3] = opaque;
    }
  }
}

// Marks the outliers and the chosen pair among the dots.
function drawMarks({ canvas, column, picture, where }, ink) {
  if (!picture) return;
  const ratio = window.devicePixelRatio || 1;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.putImageData(picture, 0, 0);
  const visible = new Set(shown);
  for (const dot of where) {
    const odd = value(dot.row, "outlier_in");
    if (!odd || !odd.split(", ").includes(column.name)) continue;
    pen.globalAlpha = visible.has(dot.row) ? 1 : 0.15;
    ring(pen, dot, 4, ink("--bad"));
  }
  pen.globalAlpha = 1;
  const marked = chosen !== null && where.find((dot) => idOf(dot.row) === chosen);
  if (!marked) return;
  ring(pen, marked, 6, ink("--ink"));
  pen.fillStyle = ink("--ink");
  pen.fillRect(marked.x - 0.5, 0, 1, canvas.height);
}

// Colours of the page, by name.
function colours() {
  const style = getComputedStyle(document.documentElement);
  const known = {};
  return (name) => (known[name] ??= style.getPropertyValue(name).trim());
}

function ring(pen, dot, radius, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.arc(dot.x, dot.y, radius, 0, 2 * Math.PI);
  pen.stroke();
}

function nearest(where, x, y) {
  let best = null;
  let least = 15 ** 2;
  for (const dot of where) {
    const apart = (dot.x - x) ** 2 + (dot.y - y) ** 2;
    if (apart < least) [best, least] = [dot, apart];
  }
  return best;
}

const figures = [];
let figuresWait = false;

function makeFigures() {
  for (const column of data.columns.filter((one) => one.figure)) {
    const known = data.rows.map((row) => row[at[column.name]]).filter((one) => one !== null);
    if (known.length === 0) continue;
    const low = known.reduce((a, b) => Math.min(a, b));
    const high = known.reduce((a, b) => Math.max(a, b));
    const range = `${Number(low.toPrecision(3))} to ${Number(high.toPrecision(3))}`;
    const says = `${column.name}: ${range} ${column.unit}`.trim();
    const canvas = make("canvas", { role: "img", "aria-label": `${says}. ${column.about}` });
    const caption = make("figcaption", { title: column.about }, says);
    $("figures").append(make("figure", {}, canvas, caption));
    const figure = { canvas, column, where: [], picture: null };
    canvas.addEventListener("click", (event) => {
      const near = nearest(figure.where, event.offsetX, event.offsetY);
      if (near) choose(idOf(near.row));
    });
    figures.push(figure);
  }
}

function drawFigures() {
  const ink = colours();
  const dots = [dotIn(ink("--accent")), dotIn(ink("--bad"))];
  for (const figure of figures) drawDots(figure, dots);
  for (const figure of figures) drawMarks(figure, ink);
}

// --- all -------------------------------------------------------------------------------

function summary() {
  const count = (verdict) =>
    data.rows.filter((row) => value(row, "verdict") === verdict).length;
  const decided = data.rows.filter((row) => value(row, "decision")).length;
  const parts = ["right", "doubtful", "failed"].map((name) => `${count(name)} ${name}`);
  return (
    `${data.rows.length} pairs: ${parts.join(", ")}; ${decided} decided by a person; ` +
    `${shown.length} shown. mireg ${data.version}`
  );
}

function draw() {
  $("summary").textContent = summary();
  drawList();
  // When the list has been painted: it is what is waited for.
  if (figuresWait) return;
  figuresWait = true;
  requestAnimationFrame(() => setTimeout(() => {
    figuresWait = false;
    drawFigures();
    document.documentElement.dataset.ready = "yes";
  }));
}

function drawList() {
  drawHead();
  drawRows();
  drawPictures();
}

for (const id of ["search", "which"]) {
  $(id).addEventListener("input", () => {
    rowsShown = ROWS_AT_ONCE;
    picturesShown = PICTURES_AT_ONCE;
    select();
  });
}
$("more-rows").addEventListener("click", () => {
  const from = rowsShown;
  rowsShown += 4 * ROWS_AT_ONCE;
  drawRows(from);
});
$("more-pictures").addEventListener("click", () => {
  picturesShown += 5 * PICTURES_AT_ONCE;
  drawPictures();
});
window.addEventListener("resize", drawFigures);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawFigures);
document.addEventListener("DOMContentLoaded", readPictures);
makeFigures();
select();
