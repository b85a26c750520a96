"use strict";

// One page on many pairs. The state is a few plain variables; `draw` shows it.

const data = JSON.parse(document.getElementById("data").textContent);
const at = Object.fromEntries(data.columns.map((column, i) => [column.name, i]));
const $ = (id) => document.getElementById(id);
const SEVERITY = { failed: 0, doubtful: 1, right: 2 };
const ROWS_AT_ONCE = 100;
const PICTURES_AT_ONCE = 24;

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
  draw();
}

function choose(id) {
  chosen = chosen === id ? null : id;
  draw();
}

// --- the table -------------------------------------------------------------------------

function drawHead() {
  const row = make("tr");
  for (const column of data.columns) {
    const arrow = sortedBy.name === column.name ? (sortedBy.down ? " ▼" : " ▲") : "";
    const sort = () => {
      const again = sortedBy.name === column.name;
      sortedBy = { name: column.name, down: again ? !sortedBy.down : column.figure };
      select();
    };
    const order = arrow ? (sortedBy.down ? "descending" : "ascending") : "none";
    const about = column.unit ? `${column.about}, ${column.unit}` : column.about;
    const button = make("button", { type: "button", title: about, onclick: sort });
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

function drawRows() {
  const rows = shown.slice(0, rowsShown).map((row) => {
    const id = idOf(row);
    const attributes = { onclick: () => choose(id), class: id === chosen ? "chosen" : "" };
    return make("tr", attributes, ...data.columns.map((column) => cell(row, column)));
  });
  document.querySelector("#table tbody").replaceChildren(...rows);
  $("more-rows").hidden = shown.length <= rowsShown;
}

// --- pictures --------------------------------------------------------------------------

function drawPictures() {
  const having = shown.filter((row) => data.pictures[idOf(row)]);
  // The chosen one is seen, wherever it is in the order.
  having.sort((a, b) => (idOf(b) === chosen) - (idOf(a) === chosen));
  const figures = having.slice(0, picturesShown).map((row) => {
    const id = idOf(row);
    const verdict = value(row, "verdict");
    const picture = make("img", {
      src: data.pictures[id],
      alt: `Edges of the moving image on the fixed one, ${id}: ${verdict}`,
    });
    const name = data.links[id] ? make("a", { href: data.links[id] }, id) : id;
    const says = make("span", { class: verdict }, ` ${verdict}`);
    const caption = make("figcaption", {}, name, says);
    const attributes = { onclick: () => choose(id), class: id === chosen ? "chosen" : "" };
    return make("figure", attributes, picture, caption);
  });
  $("pictures").replaceChildren(...figures);
  $("more-pictures").hidden = having.length <= picturesShown;
  $("pictures").parentElement.hidden = having.length === 0;
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
  return { where, low, high };
}

function drawFigure(canvas, column) {
  const ratio = window.devicePixelRatio || 1;
  const width = canvas.clientWidth;
  const height = canvas.clientHeight;
  canvas.width = width * ratio;
  canvas.height = height * ratio;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const style = getComputedStyle(document.documentElement);
  const ink = (name) => style.getPropertyValue(name).trim();
  const { where } = layOut(column, width, height);
  const visible = new Set(shown);
  let marked = null;
  for (const dot of where) {
    const verdict = value(dot.row, "verdict");
    pen.globalAlpha = visible.has(dot.row) ? 1 : 0.15;
    pen.fillStyle = ink(verdict === "right" ? "--accent" : "--bad");
    pen.beginPath();
    pen.arc(dot.x, dot.y, 2, 0, 2 * Math.PI);
    pen.fill();
    const odd = (value(dot.row, "outlier_in") ?? "").split(", ");
    if (odd.includes(column.name)) ring(pen, dot, 4, ink("--bad"));
    if (idOf(dot.row) === chosen) marked = dot;
  }
  pen.globalAlpha = 1;
  if (marked) {
    ring(pen, marked, 6, ink("--ink"));
    pen.fillStyle = ink("--ink");
    pen.fillRect(marked.x - 0.5, 0, 1, height);
  }
  canvas.onclick = (event) => {
    const near = nearest(where, event.offsetX, event.offsetY);
    if (near) choose(idOf(near.row));
  };
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

const canvases = [];

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
    canvases.push([canvas, column]);
  }
}

function drawFigures() {
  for (const [canvas, column] of canvases) drawFigure(canvas, column);
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
  $("chosen").textContent = chosen === null ? "" : `chosen: ${chosen}`;
  drawHead();
  drawRows();
  drawPictures();
  drawFigures();
}

for (const id of ["search", "which"]) {
  $(id).addEventListener("input", () => {
    rowsShown = ROWS_AT_ONCE;
    picturesShown = PICTURES_AT_ONCE;
    select();
  });
}
$("more-rows").addEventListener("click", () => {
  rowsShown += 5 * ROWS_AT_ONCE;
  drawRows();
});
$("more-pictures").addEventListener("click", () => {
  picturesShown += 5 * PICTURES_AT_ONCE;
  drawPictures();
});
window.addEventListener("resize", drawFigures);
makeFigures();
select();
