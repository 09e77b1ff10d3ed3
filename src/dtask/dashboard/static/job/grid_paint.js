// Paints the cells of a grid on its canvas, in the colours of the theme.
import { ORDER, shares } from "./grid_cells.js";

/** Between cells, of large and of small ones. */
const GAPS = { large: 2, small: 1 };
const SMALL = 10;

/** `countsAt(cell)` is what stands in one; `cell` is pointed at, `chosen` is open; both may be null. */
export function paint(canvas, layout, countsAt, { cell, chosen }) {
  const { side, columns, rows, cells } = layout;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [columns * side, rows * side];
  canvas.width = Math.ceil(width * ratio);
  canvas.height = Math.ceil(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const colours = coloursOf(canvas);
  const inner = side - (side > SMALL ? GAPS.large : GAPS.small);
  for (let at = 0; at < cells; at += 1) {
    const [x, y] = [(at % columns) * side, Math.floor(at / columns) * side];
    fill(pen, x, y, inner, shares(countsAt(at)), colours);
  }
  for (const [at, colour] of [[chosen, colours.text], [cell, colours.accent]]) {
    if (at !== null && at < cells) outline(pen, (at % columns) * side, Math.floor(at / columns) * side, inner, colour);
  }
}

function fill(pen, x, y, side, parts, colours) {
  let top = y;
  for (const [state, share] of parts) {
    const height = share * side;
    pen.fillStyle = colours[state];
    pen.fillRect(x, top, side, height);
    top += height;
  }
  // A failure has a mark as well as a colour, where there is room for one.
  if (parts[0]?.[0] === "failed" && side >= 8) {
    pen.strokeStyle = colours.surface;
    pen.lineWidth = 1.4;
    const inset = side * 0.28;
    const bottom = y + Math.min(side, Math.max(parts[0][1] * side, side * 0.5));
    pen.beginPath();
    pen.moveTo(x + inset, y + inset * 0.8);
    pen.lineTo(x + side - inset, bottom - inset * 0.8);
    pen.moveTo(x + side - inset, y + inset * 0.8);
    pen.lineTo(x + inset, bottom - inset * 0.8);
    pen.stroke();
  }
}

function outline(pen, x, y, side, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.strokeRect(x, y, side, side);
}

/** The custom properties of the page: `--state-failed` and the like. */
function coloursOf(element) {
  const style = getComputedStyle(element);
  const named = (name) => style.getPropertyValue(name).trim();
  const colours = Object.fromEntries(ORDER.map((state) => [state, named(`--cell-${state}`)]));
  return { ...colours, text: named("--text"), accent: named("--accent"), surface: named("--surface") };
}
