// Paints the cells of a grid on its canvas, in the colours of the theme.
import { ORDER } from "./grid_cells.js";

/** Between cells, of large and of small ones. */
const GAPS = { large: 2, small: 1 };
const SMALL = 10;

/** A failure among many is drawn at least this large, so that it is seen. */
const SEEN_SHARE = 0.34;

/** `states` has, by state, how many elements of each cell are in it. */
export function paint(canvas, layout, states) {
  const { side, columns, rows, cells } = layout;
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [columns * side, rows * side];
  canvas.width = Math.ceil(width * ratio);
  canvas.height = Math.ceil(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  const inner = innerOf(side);
  const failed = states.failed ?? [];
  for (const { colour, rects } of filled(states, layout, inner, coloursOf(canvas))) {
    pen.fillStyle = colour;
    for (let at = 0; at < rects.length; at += 3) pen.fillRect(rects[at], rects[at + 1], inner, rects[at + 2]);
  }
  pen.strokeStyle = getComputedStyle(canvas).getPropertyValue("--surface");
  pen.lineWidth = 1.4;
  for (let cell = 0; cell < cells; cell += 1) {
    if (failed[cell] > 0) cross(pen, (cell % columns) * side, Math.floor(cell / columns) * side, inner);
  }
}

/** The side of what is seen of a cell. */
export function innerOf(side) {
  return side - (side > SMALL ? GAPS.large : GAPS.small);
}

/** By state its colour, and `x, y, height` of each rectangle in it; colours are changed seldom. */
function filled(states, { columns, side, cells }, inner, colours) {
  const parts = ORDER.filter((state) => states[state]).map((state) => ({ state, counts: states[state], colour: colours[state], rects: [] }));
  for (let cell = 0; cell < cells; cell += 1) {
    let all = 0;
    for (const { counts } of parts) all += counts[cell];
    const failed = states.failed?.[cell] ?? 0;
    const lifted = failed > 0 && failed / all < SEEN_SHARE;
    const others = lifted ? (1 - SEEN_SHARE) / (1 - failed / all) : 1;
    const x = (cell % columns) * side;
    let y = Math.floor(cell / columns) * side;
    for (const { state, counts, rects } of parts) {
      if (counts[cell] === 0) continue;
      const share = state === "failed" && lifted ? SEEN_SHARE : (counts[cell] / all) * others;
      rects.push(x, y, share * inner);
      y += share * inner;
    }
  }
  return parts;
}

/** A failure has a mark as well as a colour. It stands at the top of its cell. */
function cross(pen, x, y, inner) {
  const [left, right] = [x + inner * 0.28, x + inner * 0.72];
  const [top, bottom] = [y + inner * 0.22, y + inner * (inner > SMALL ? 0.78 : 0.6)];
  pen.beginPath();
  pen.moveTo(left, top);
  pen.lineTo(right, bottom);
  pen.moveTo(right, top);
  pen.lineTo(left, bottom);
  pen.stroke();
}

/** The custom properties of the page: `--cell-failed` and the like. */
function coloursOf(element) {
  const style = getComputedStyle(element);
  return Object.fromEntries(ORDER.map((state) => [state, style.getPropertyValue(`--cell-${state}`).trim()]));
}
