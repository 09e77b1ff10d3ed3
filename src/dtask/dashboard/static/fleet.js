// The fleet as one picture: tiles with names for a few workers, a cell each for thousands.
import { arrange, cellAt, corner, paint, palette } from "./cells.js";
import { count, plural } from "./formats.js";
import { html, useEffect, useId, useLayoutEffect, useMemo, useRef, useState } from "./html.js";
import { useNow } from "./live.js";
import { Age, LoadBar, StateBadge, StateShape } from "./parts.js";
import { Link, navigate, pathOf } from "./router.js";

/** More workers than this are cells. */
const TILES_MAX = 40;
/** Online workers have been silent for less than this, unless the scheduler is set otherwise. */
const ON_TIME_S = 10;
/** Rows that Page Up and Page Down move by. */
const LEAP_ROWS = 10;

const COLLATOR = new Intl.Collator("en", { numeric: true });

/** Rows of the stream in the order of their ids, numbers by their size. */
export function useOrdered(live) {
  const ids = useMemo(() => [...live.workers.keys()].sort(COLLATOR.compare), [live.members]);
  // An id may be gone before the order is made anew.
  return ids.map((id) => live.workers.get(id)).filter((row) => row !== undefined);
}

/** What a worker is to people: offline and suspect first, then draining, else online. */
export const standing = ([, status, draining]) =>
  status === "online" && draining ? "draining" : status;

export function Fleet({ live }) {
  const rows = useOrdered(live);
  return html`
    <div class="fleet">
      ${rows.length <= TILES_MAX ? html`<${Tiles} rows=${rows} />` : html`<${Picture} rows=${rows} />`}
      <${Legend} workers=${live.totals.workers} cells=${rows.length > TILES_MAX} />
    </div>
  `;
}

function Tiles({ rows }) {
  return html`
    <ul class="tiles">
      ${rows.map((row) => html`
        <li key=${row[0]}>
          <${Link} to=${pathOf("workers", row[0])} class="tile ${standing(row)}">
            <span class="tile-head">
              <span class="cut" title=${row[0]}>${row[0]}</span>
              ${standing(row) !== "online" && html`<${StateBadge} state=${standing(row)} />`}
            </span>
            <${LoadBar} used=${row[3]} total=${row[4]} />
            <span class="tile-foot"><${Room} row=${row} /></span>
          <//>
        </li>`)}
    </ul>
  `;
}

function Room({ row }) {
  if (row[1] !== "online") return html`heartbeat <${Heartbeat} status=${row[1]} at=${row[5]} />`;
  if (row[2]) return "takes no new tasks";
  return row[3] >= row[4] ? "full" : `${plural(row[4] - row[3], "slot")} free`;
}

/**
 * How long ago the last heartbeat came, as far as the stream knows: it tells of one only when that
 * changed something, so the last one known of an online worker may be old, and is "on time" then.
 */
export function Heartbeat({ status, at }) {
  const age_s = useNow() - at;
  return status === "online" && age_s > ON_TIME_S ? "on time" : html`<${Age} at=${at} />`;
}

/** In words, for whoever can't see it: `gpu-1: online, 3 of 4 slots taken`. */
const spoken = (row) => `${row[0]}: ${standing(row)}, ${row[3]} of ${plural(row[4], "slot")} taken`;

/** A canvas that acts as a list box: arrows move, Enter opens, the pointer does both. */
function Picture({ rows }) {
  const place = useRef();
  const canvas = useRef();
  const optionId = useId();
  const width = useWidth(place);
  const colours = usePalette();
  const [pointed, setPointed] = useState(null); // an index
  const [focused, setFocused] = useState(false);
  const grid = width && arrange(rows.length, width);
  const active = pointed === null ? null : Math.min(pointed, rows.length - 1);

  useLayoutEffect(() => {
    if (grid) paint(canvas.current, rows, grid, colours, active);
  });

  const underPointer = (event) => {
    const box = canvas.current.getBoundingClientRect();
    return cellAt(grid, rows.length, event.clientX - box.left, event.clientY - box.top);
  };
  const open = (index) => index !== null && navigate(pathOf("workers", rows[index][0]));
  const pressed = (event) => {
    const target = moved(event.key, active ?? 0, grid.columns, rows.length);
    if (target !== null) {
      setPointed(target);
      reveal(place.current, corner(grid, target)[1], grid.pitch);
    } else if (event.key === "Enter" || event.key === " ") open(active);
    else return;
    event.preventDefault();
  };
  const listed = rows[active ?? 0];
  return html`
    <div class="picture">
      <div class="picture-cells" role="listbox" tabindex="0" ref=${place}
           aria-label="Workers by name. Arrow keys move from one to the next, Enter opens it."
           aria-activedescendant=${optionId}
           onKeyDown=${pressed}
           onFocus=${() => { setFocused(true); setPointed(active ?? 0); }}
           onBlur=${() => { setFocused(false); setPointed(null); }}
           onPointerMove=${(event) => setPointed(underPointer(event))}
           onPointerLeave=${() => !focused && setPointed(null)}
           onClick=${(event) => open(underPointer(event))}>
        <canvas ref=${canvas} class=${active === null ? "" : "pointed"} aria-hidden="true"></canvas>
        <div id=${optionId} class="only-read" role="option" aria-selected="true"
             aria-posinset=${(active ?? 0) + 1} aria-setsize=${rows.length}>${spoken(listed)}</div>
      </div>
      ${active !== null && html`<${Tip} row=${rows[active]} grid=${grid} index=${active} width=${width} above=${place.current.scrollTop} />`}
    </div>
  `;
}

/** Scroll so that the row of cells at `top_px` is in sight: a huge fleet is higher than its place. */
function reveal(place, top_px, height_px) {
  const lowest = top_px + height_px - place.clientHeight;
  place.scrollTop = Math.min(top_px, Math.max(lowest, place.scrollTop));
}

/** The index that a key moves to, or null for keys that don't move. */
function moved(key, index, columns, length) {
  const steps = {
    ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns,
    PageUp: -columns * LEAP_ROWS, PageDown: columns * LEAP_ROWS,
    Home: -length, End: length,
  };
  if (!(key in steps)) return null;
  const target = index + steps[key];
  if (key === "ArrowUp" || key === "ArrowDown") return target >= 0 && target < length ? target : index;
  return Math.max(0, Math.min(length - 1, target));
}

function Tip({ row, grid, index, width, above }) {
  const [x, y] = corner(grid, index);
  const right = x > width / 2;
  const place = {
    top: `${y - above + grid.pitch + 6}px`,
    left: right ? "auto" : `${x}px`,
    right: right ? `${width - x - grid.size}px` : "auto",
  };
  return html`
    <div class="tip" style=${place} aria-hidden="true">
      <p class="tip-title cut">${row[0]}</p>
      <p class="tip-line"><${StateBadge} state=${row[1]} />${row[2] && html`<${StateBadge} state="draining" />`}</p>
      <${LoadBar} used=${row[3]} total=${row[4]} />
      <p class="dim">heartbeat <${Heartbeat} status=${row[1]} at=${row[5]} /></p>
    </div>
  `;
}

function Legend({ workers, cells }) {
  const shapes = ["draining", "suspect", "offline"];
  return html`
    <div class="legend">
      ${cells && html`<p class="legend-item">idle
        <span class="ramp" aria-hidden="true">${[0, 1, 2, 3, 4, 5].map((step) => html`<i key=${step} class="level-${step}"></i>`)}</span>
        full</p>`}
      ${shapes.map((state) => html`
        <${Link} key=${state} class="legend-item" to="/workers" query=${{ status: state }}>
          ${state === "draining" && cells ? html`<i class="hollow" aria-hidden="true"></i>` : html`<${StateShape} state=${state} />`}
          ${state} <b>${count(workers[state])}</b><//>`)}
    </div>
  `;
}

/** The width of an element's inside, again whenever it changes. */
function useWidth(element) {
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry.contentRect.width)));
    observer.observe(element.current);
    return () => observer.disconnect();
  }, []);
  return width;
}

function usePalette() {
  const [colours, setColours] = useState(palette);
  useEffect(() => {
    const read = () => setColours(palette());
    addEventListener("themechange", read);
    return () => removeEventListener("themechange", read);
  }, []);
  return colours;
}
