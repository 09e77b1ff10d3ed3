// A layout for graphs that are too large for dagre: columns by depth, in a straight sweep.
export const NODE = { height: 46, gapX: 56, gapY: 14, widthMin: 132, widthMax: 240 };

/** Tasks of one depth that stand above each other; more of them go on in another column. */
const ROWS_MAX = 40;
const SWEEPS = 3;

/** The width of a task's box, by the length of its name. */
export function widthOf(name) {
  return Math.max(NODE.widthMin, Math.min(NODE.widthMax, 40 + 8.4 * name.length));
}

/** The longest way from a task without needs to each task; `needs` has no cycle. */
export function depths(names, needs) {
  const depth = new Map();
  const open = new Map(names.map((name) => [name, needs.get(name).length]));
  const after = new Map(names.map((name) => [name, []]));
  for (const name of names) for (const need of needs.get(name)) after.get(need)?.push(name);
  const ready = names.filter((name) => open.get(name) === 0);
  for (const name of ready) depth.set(name, 0);
  for (let at = 0; at < ready.length; at += 1) {
    const name = ready[at];
    for (const next of after.get(name)) {
      depth.set(next, Math.max(depth.get(next) ?? 0, depth.get(name) + 1));
      open.set(next, open.get(next) - 1);
      if (open.get(next) === 0) ready.push(next);
    }
  }
  return depth;
}

/** `{boxes, ways, width, height}` as by the layout worker: each box with its middle, x and y. */
export function ranked(names, needs) {
  const columns = sorted(names, needs);
  const boxes = new Map();
  let left = 0;
  let height = 0;
  for (const column of columns) {
    for (let start = 0; start < column.length; start += ROWS_MAX) {
      const part = column.slice(start, start + ROWS_MAX);
      const width = Math.max(...part.map(widthOf));
      part.forEach((name, row) => {
        const y = row * (NODE.height + NODE.gapY) + NODE.height / 2;
        boxes.set(name, { x: left + width / 2, y, width, height: NODE.height });
      });
      height = Math.max(height, part.length * (NODE.height + NODE.gapY) - NODE.gapY);
      left += width + (start + ROWS_MAX < column.length ? NODE.gapY : NODE.gapX);
    }
  }
  const ways = names.flatMap((name) => needs.get(name).map((need) => ({ from: need, to: name, points: null })));
  return { boxes, ways, width: Math.max(0, left - NODE.gapX), height };
}

/** The names by depth; within a depth close to what each needs. */
function sorted(names, needs) {
  const depth = depths(names, needs);
  const columns = [];
  for (const name of names) (columns[depth.get(name)] ??= []).push(name);
  const place = new Map();
  const settle = (column) => column.forEach((name, row) => place.set(name, row / column.length));
  columns.forEach(settle);
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    for (const column of columns.slice(1)) {
      const wanted = new Map(column.map((name) => [name, mean(needs.get(name).map((need) => place.get(need)))]));
      column.sort((a, b) => wanted.get(a) - wanted.get(b));
      settle(column);
    }
  }
  return columns;
}

function mean(numbers) {
  return numbers.reduce((sum, number) => sum + number, 0) / Math.max(1, numbers.length);
}
