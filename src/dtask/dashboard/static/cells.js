// Many workers as one picture: where each cell is, and how a canvas is painted.
// A worker is its row of the stream: [id, status, draining, current, max, last heartbeat].

/** A picture higher than this scrolls, if cells can't be smaller. */
const HEIGHT_PX = 440;
const PITCH_MAX_PX = 28;
const PITCH_MIN_PX = 4;

/** How full: 0 idle, 1 to 4 by quarters, 5 full. */
export function level(row) {
  const share = row[4] > 0 ? row[3] / row[4] : 1;
  if (row[3] <= 0) return 0;
  return share >= 1 ? 5 : 1 + Math.floor(share * 4);
}

/**
 * The largest cells with which so many fit: `{pitch, stride, size, columns, rows, width}` in pixels
 * and cells. Rows are `pitch` apart, columns `stride`, so that they fill the width.
 */
export function arrange(count, width_px) {
  let pitch = PITCH_MAX_PX;
  while (pitch > PITCH_MIN_PX && Math.ceil(count / Math.floor(width_px / pitch)) * pitch > HEIGHT_PX) {
    pitch -= 1;
  }
  const columns = Math.max(1, Math.floor(width_px / pitch));
  const gap = pitch >= 14 ? 3 : pitch >= 7 ? 2 : 1;
  const size = pitch - gap;
  const stride = columns > 1 ? (width_px - size) / (columns - 1) : pitch;
  return { pitch, stride, size, columns, rows: Math.ceil(count / columns), width: width_px };
}

/** The index of the cell at a point of the picture, or null. */
export function cellAt(grid, count, x_px, y_px) {
  const column = Math.floor(x_px / grid.stride);
  const index = Math.floor(y_px / grid.pitch) * grid.columns + column;
  return column >= 0 && column < grid.columns && index >= 0 && index < count ? index : null;
}

/** The left upper corner of a cell, in pixels. */
export const corner = (grid, index) => [
  Math.round((index % grid.columns) * grid.stride),
  Math.floor(index / grid.columns) * grid.pitch,
];

/** The colours of the theme that is in force. */
export function palette() {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  return {
    levels: [0, 1, 2, 3, 4, 5].map((number) => colour(`--load-${number}`)),
    warn: colour("--warn"),
    bad: colour("--bad"),
    warnSoft: colour("--warn-soft"),
    badSoft: colour("--bad-soft"),
    mark: colour("--text"),
  };
}

/** Paint all cells; `active` is the index of the one to mark, or null. */
export function paint(canvas, rows, grid, colours, active) {
  const scale = window.devicePixelRatio || 1;
  const { width } = grid;
  const height = grid.rows * grid.pitch;
  fit(canvas, width, height, scale);
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const groups = sorted(rows);
  groups.levels.forEach((cells, number) => squares(pen, grid, cells, colours.levels[number], 0));
  rings(pen, grid, groups.draining, colours.warn);
  squares(pen, grid, groups.suspect, colours.warnSoft, 0);
  triangles(pen, grid, groups.suspect, colours.warn);
  squares(pen, grid, groups.offline, colours.badSoft, 0);
  crosses(pen, grid, groups.offline, colours.bad);
  if (active !== null && active < rows.length) mark(pen, grid, active, colours.mark);
}

function fit(canvas, width, height, scale) {
  const [wide, high] = [Math.round(width * scale), Math.round(height * scale)];
  if (canvas.width === wide && canvas.height === high) return;
  canvas.width = wide;
  canvas.height = high;
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
}

/** Cells by how they are painted, so that the canvas changes colours a few times only. */
function sorted(rows) {
  const groups = { levels: [[], [], [], [], [], []], draining: [], suspect: [], offline: [] };
  rows.forEach((row, index) => {
    if (row[1] === "offline") groups.offline.push(index);
    else if (row[1] === "suspect") groups.suspect.push(index);
    else {
      groups.levels[level(row)].push(index);
      if (row[2]) groups.draining.push(index);
    }
  });
  return groups;
}

function squares(pen, grid, cells, colour, inset) {
  if (cells.length === 0) return;
  pen.fillStyle = colour;
  pen.beginPath();
  const size = grid.size - 2 * inset;
  for (const index of cells) {
    const [x, y] = corner(grid, index);
    if (grid.size >= 8) pen.roundRect(x + inset, y + inset, size, size, Math.min(3, grid.size / 5));
    else pen.rect(x + inset, y + inset, size, size);
  }
  pen.fill();
}

function rings(pen, grid, cells, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = Math.max(1.5, grid.size / 5);
  const size = grid.size - pen.lineWidth;
  for (const index of cells) {
    const [x, y] = corner(grid, index);
    pen.strokeRect(x + pen.lineWidth / 2, y + pen.lineWidth / 2, size, size);
  }
}

function triangles(pen, grid, cells, colour) {
  pen.fillStyle = colour;
  pen.beginPath();
  for (const index of cells) {
    const [x, y] = corner(grid, index);
    pen.moveTo(x + grid.size / 2, y);
    pen.lineTo(x + grid.size, y + grid.size);
    pen.lineTo(x, y + grid.size);
    pen.closePath();
  }
  pen.fill();
}

function crosses(pen, grid, cells, colour) {
  pen.strokeStyle = colour;
  pen.lineWidth = Math.max(1.7, grid.size / 6);
  pen.lineCap = "round";
  pen.beginPath();
  const inset = grid.size * 0.15;
  for (const index of cells) {
    const [x, y] = corner(grid, index);
    pen.moveTo(x + inset, y + inset);
    pen.lineTo(x + grid.size - inset, y + grid.size - inset);
    pen.moveTo(x + grid.size - inset, y + inset);
    pen.lineTo(x + inset, y + grid.size - inset);
  }
  pen.stroke();
}

function mark(pen, grid, index, colour) {
  const [x, y] = corner(grid, index);
  pen.strokeStyle = colour;
  pen.lineWidth = 2;
  pen.strokeRect(x - 0.5, y - 0.5, grid.size + 1, grid.size + 1);
}
