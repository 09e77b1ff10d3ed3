// How the elements of an array are laid out as cells: one each, or many in one.
/** Sides of a cell in pixels, from the largest that fits to the smallest; the gap is part of it. */
const SIDES = [18, 15, 12, 10, 8];

/** Rows before many elements share a cell. */
const ROWS_MAX = 28;

/** States in the order in which a cell is filled, from its top. */
export const ORDER = ["failed", "cancelled", "skipped", "running", "scheduled", "queued", "pending", "succeeded"];

/** `{every, side, columns, rows, cells}` for so many elements in a box of this width. */
export function plan(elements, width) {
  for (const side of SIDES) {
    const columns = Math.max(1, Math.floor(width / side));
    if (elements <= columns * ROWS_MAX) return shaped(elements, 1, side, columns);
  }
  const side = SIDES.at(-1);
  const columns = Math.max(1, Math.floor(width / side));
  return shaped(elements, rounded(elements / (columns * ROWS_MAX)), side, columns);
}

function shaped(elements, every, side, columns) {
  const cells = Math.ceil(elements / every);
  return { every, side, columns: Math.min(columns, Math.max(1, cells)), rows: Math.ceil(cells / columns), cells };
}

/** The next of 1, 2, 5, 10, 20, .. */
function rounded(least) {
  let power = 1;
  while (power * 10 < least) power *= 10;
  return [1, 2, 5, 10].map((digit) => digit * power).find((each) => each >= least);
}

/** `12 succeeded, 1 failed`: what stands in a cell. */
export function told(counts) {
  return ORDER.filter((state) => counts[state] > 0)
    .reverse()
    .map((state) => `${counts[state].toLocaleString("en")} ${state}`)
    .join(", ");
}
