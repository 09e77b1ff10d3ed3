// The elements of an array as a grid: a cell each, or many in one, which a click opens.
import { count, plural } from "../formats.js";
import { html, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { ErrorNote, Loading, StateShape } from "../parts.js";
import { innerOf, paint } from "./grid_paint.js";
import { ORDER, plan, told } from "./grid_cells.js";
import { pathOf } from "./log_reader.js";
import { totalOf } from "./progress.js";
import { useFresh } from "./fresh.js";

/** `task` is the array's summary; `selected` is an index or null, `select(index)` opens one. */
export function ArrayGrid({ jobId, name, task, selected, select }) {
  const total = totalOf(task);
  const [range, setRange] = useState(null);
  const [from, to] = range ?? [0, total];
  const [place, width] = useWidth();
  const layout = width > 0 ? plan(to - from, width) : null;
  const { data, error, reload } = useFresh(
    jobId,
    layout && pathOf({ jobId, task: name }, "states"),
    layout && { first: from, count: to - from, every: layout.every },
  );
  const open = (cell) => {
    if (layout.every === 1) select(from + cell);
    else setRange([from + cell * layout.every, Math.min(to, from + (cell + 1) * layout.every)]);
  };
  return html`
    <div class="grid-box">
      <div class="grid-head">
        <${Legend} counts=${task.counts} />
        <${GoTo} total=${total} select=${select} />
      </div>
      ${range && html`
        <p class="grid-range">Elements ${count(from)} to ${count(to - 1)}
          <button type="button" class="link" onClick=${() => setRange(null)}>Show all ${count(total)}</button></p>`}
      ${error && html`<${ErrorNote} error=${error} retry=${reload} />`}
      <div ref=${place} class="grid-place">
        ${layout && data
          ? html`<${Cells} layout=${layout} states=${data.states} from=${from} to=${to} selected=${selected} open=${open} name=${name} />`
          : html`<${Loading} what="Loading the elements" lines=${2} />`}
      </div>
    </div>
  `;
}

function Legend({ counts }) {
  return html`
    <ul class="state-legend">
      ${[...ORDER].reverse().filter((state) => counts[state] > 0).map((state) => html`
        <li key=${state}><${StateShape} state=${state} />${count(counts[state])} ${state}</li>`)}
    </ul>
  `;
}

function GoTo({ total, select }) {
  const [wrong, setWrong] = useState(false);
  const go = (event) => {
    event.preventDefault();
    const text = new FormData(event.currentTarget).get("index");
    const index = Number(text);
    const fits = text.trim() !== "" && Number.isInteger(index) && index >= 0 && index < total;
    setWrong(!fits);
    if (fits) select(index);
  };
  return html`
    <form class="grid-go" onSubmit=${go}>
      <label>Element <input name="index" inputmode="numeric" autocomplete="off" placeholder=${`0 to ${total - 1}`} aria-invalid=${wrong ? "true" : undefined} /></label>
      <button class="button small">Open</button>
      ${wrong && html`<span role="alert" class="tone-bad">0 to ${count(total - 1)}</span>`}
    </form>
  `;
}

/** The canvas: pointed at, clicked, or gone through with the arrow keys. */
function Cells({ layout, states, from, to, selected, open, name }) {
  const canvas = useRef();
  const [cell, setCell] = useState(null);
  const theme = useTheme();
  const chosen = selected !== null && layout.every === 1 && selected >= from && selected < to ? selected - from : null;
  const countsAt = (at) => Object.fromEntries(Object.entries(states).map(([state, all]) => [state, all[at] ?? 0]));

  useLayoutEffect(() => {
    paint(canvas.current, layout, states);
  }, [layout.every, layout.columns, layout.cells, layout.side, states, theme]);

  const at = (event) => {
    const box = canvas.current.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left) / layout.side);
    const row = Math.floor((event.clientY - box.top) / layout.side);
    const found = row * layout.columns + column;
    return column >= 0 && column < layout.columns && row >= 0 && found < layout.cells ? found : null;
  };
  const move = (event) => {
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -layout.columns, ArrowDown: layout.columns, Home: -Infinity, End: Infinity };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (cell !== null) open(cell);
    } else if (event.key in steps) {
      event.preventDefault();
      const next = cell === null ? (chosen ?? 0) : cell + steps[event.key];
      setCell(Math.max(0, Math.min(layout.cells - 1, next)));
    }
  };
  const first = (index) => from + index * layout.every;
  const last = (index) => Math.min(to, first(index) + layout.every) - 1;
  return html`
    <div class="grid-cells">
      <canvas ref=${canvas} class="grid-canvas" tabindex="0" role="application" aria-roledescription="grid of elements"
              aria-label=${`${plural(to - from, "element")} of ${name}${layout.every > 1 ? `, ${count(layout.every)} in each cell` : ""}. Arrow keys go from cell to cell, Enter opens one.`}
              onMouseMove=${(event) => setCell(at(event))} onMouseLeave=${() => setCell(null)}
              onClick=${(event) => { const found = at(event); if (found !== null) open(found); }} onKeyDown=${move}
              onBlur=${() => setCell(null)}></canvas>
      <${Mark} cell=${chosen} layout=${layout} kind="chosen" />
      <${Mark} cell=${cell} layout=${layout} kind="pointed" />
    </div>
    <p class="grid-told" role="status">
      ${cell === null
        ? html`<span class="dim">${layout.every > 1 ? `A cell stands for ${count(layout.every)} elements. Click one to open it.` : "Click an element to open it."}</span>`
        : html`<b>${layout.every === 1 ? `${name}[${first(cell)}]` : `${name}[${first(cell)} to ${last(cell)}]`}</b> ${told(countsAt(cell))}`}
    </p>
  `;
}

/** A frame around one cell. */
function Mark({ cell, layout, kind }) {
  if (cell === null || cell >= layout.cells) return null;
  const { side, columns } = layout;
  const style = { left: `${(cell % columns) * side}px`, top: `${Math.floor(cell / columns) * side}px`, width: `${innerOf(side)}px`, height: `${innerOf(side)}px` };
  return html`<span class=${`grid-mark ${kind}`} style=${style}></span>`;
}

/** A ref, and the width of what it is at. */
function useWidth() {
  const place = useRef();
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => setWidth(Math.floor(place.current.clientWidth)));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  return [place, width];
}

/** Grows when the theme changes: what is painted has to be painted again. */
function useTheme() {
  const [changes, setChanges] = useState(0);
  useEffect(() => {
    const changed = () => setChanges((number) => number + 1);
    addEventListener("themechange", changed);
    return () => removeEventListener("themechange", changed);
  }, []);
  return changes;
}
