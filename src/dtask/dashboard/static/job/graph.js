// The graph of a job: its tasks as boxes, what they need as lines, their states as they are now.
import { count, plural } from "../formats.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { Loading } from "../parts.js";
import { laidOut } from "./layout.js";
import { Box } from "./graph_box.js";

const MARGIN = 14;
/** The tip of a line, which it ends before. */
const ARROW_PX = 6;
const ZOOM_MIN = 0.25;
const ZOOM_MAX = 1.5;
const ZOOM_STEP = 1.25;
/** Smaller than this no name could be read: a graph that is larger is scrolled. */
const ZOOM_READABLE = 0.72;

/** Smaller than this boxes are drawn without a text. */
const ZOOM_OF_TEXT = 0.45;

/** Lines that are drawn at a time; above it only those of the task in focus are. */
const WAYS_MAX = 3_000;

/**
 * `tasks` are entries of the job, `[name, summary]`; `selected` is the name of one or null, and
 * `select(name)` chooses another.
 */
export function Graph({ tasks, selected, select }) {
  const shape = useShape(tasks);
  const layout = useLayout(shape);
  const place = useRef();
  const [zoom, setZoom] = useState(null);
  const [focused, setFocused] = useState(selected ?? tasks[0][0]);
  const view = useView(place, zoom, layout);

  useEffect(() => {
    if (layout !== null) setZoom(fitting(place.current, layout));
  }, [layout]);
  const isSized = layout !== null && zoom !== null;
  useEffect(() => {
    if (isSized) bringIn(place.current, layout.boxes.get(focused), zoom);
  }, [isSized]);

  const scale = zoom ?? 1;
  const drawn = useMemo(() => layout && seen(layout, view, zoom ?? 1, focused), [layout, view, zoom, focused]);
  const states = useMemo(() => new Map(tasks), [tasks]);

  if (layout === null) return html`<div class="graph-place" ref=${place}><${Loading} what="Laying out the graph" /></div>`;
  const small = scale < ZOOM_OF_TEXT;
  const size = { width: layout.width + 2 * MARGIN, height: layout.height + 2 * MARGIN };
  const choose = (name) => {
    setFocused(name);
    select(name);
  };
  const go = (name) => {
    setFocused(name);
    requestAnimationFrame(() => place.current?.querySelector(`[data-task="${CSS.escape(name)}"]`)?.focus());
  };
  return html`
    <div class="graph">
      <div class="graph-place" ref=${place}>
        <svg class="graph-picture" role="group" aria-label=${`Graph of ${plural(tasks.length, "task")}. Arrow keys go along it.`}
             width=${size.width * scale} height=${size.height * scale} viewBox=${`0 0 ${size.width} ${size.height}`}
             onKeyDown=${(event) => keys(event, focused, layout, shape, { go, select })}>
          <defs>${["", "near"].map((kind) => html`
            <marker key=${kind} id=${`graph-arrow${kind}`} class=${`graph-arrow ${kind}`} viewBox="0 0 7 8" refX="0" refY="4" markerWidth="7" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0.5L6.5 4L0 7.5z" /></marker>`)}</defs>
          <g transform=${`translate(${MARGIN} ${MARGIN})`}>
            ${drawn.ways.map((way) => html`<path key=${way.key} class=${isOf(way, selected) ? "graph-way near" : "graph-way"} d=${way.path} marker-end=${`url(#graph-arrow${isOf(way, selected) ? "near" : ""})`} />`)}
            ${drawn.names.map((name) => html`
              <${Box} key=${name} name=${name} task=${states.get(name)} box=${layout.boxes.get(name)} isSelected=${name === selected}
                      isFocused=${name === focused} small=${small} select=${choose} />`)}
          </g>
        </svg>
      </div>
      <div class="graph-foot">
        ${drawn.hidden > 0 && html`<p class="dim">${`${count(drawn.hidden)} lines would hide each other: those of the chosen task are drawn.`}</p>`}
        ${!isSeen(view, size, scale) && html`<${Zoom} zoom=${scale} change=${setZoom} fit=${() => setZoom(fitting(place.current, layout, ZOOM_MIN))} />`}
      </div>
    </div>
  `;
}

/** Whether all of it is seen in its own size: then there is nothing to make smaller or larger. */
function isSeen(view, { width, height }, scale) {
  return view === null || (scale === 1 && width <= view.width && height <= view.height);
}

function Zoom({ zoom, change, fit }) {
  const by = (factor) => change(Math.max(ZOOM_MIN, Math.min(ZOOM_MAX, zoom * factor)));
  return html`
    <div class="graph-zoom" role="group" aria-label="Size of the graph">
      <button type="button" class="icon-button" title="Smaller" aria-label="Smaller" disabled=${zoom <= ZOOM_MIN} onClick=${() => by(1 / ZOOM_STEP)}>−</button>
      <button type="button" class="icon-button wide" title="All of it" onClick=${fit}>${Math.round(zoom * 100)}%</button>
      <button type="button" class="icon-button" title="Larger" aria-label="Larger" disabled=${zoom >= ZOOM_MAX} onClick=${() => by(ZOOM_STEP)}>+</button>
    </div>
  `;
}

/** Names and needs, the same object as long as they are the same: states change, they don't. */
function useShape(tasks) {
  const key = useMemo(() => tasks.map(([name, task]) => `${name}<${task.needs?.join() ?? ""}`).join(), [tasks]);
  return useMemo(() => {
    const names = tasks.map(([name]) => name);
    const needs = new Map(tasks.map(([name, task]) => [name, task.needs ?? []]));
    const after = new Map(names.map((name) => [name, []]));
    for (const [name, all] of needs) for (const need of all) after.get(need)?.push(name);
    return { names, needs, after };
  }, [key]);
}

function useLayout(shape) {
  const [layout, setLayout] = useState(null);
  useEffect(() => {
    const controller = new AbortController();
    laidOut(shape.names, shape.needs, controller.signal).then((done) => controller.signal.aborted || setLayout(withPaths(done)));
    return () => controller.abort();
  }, [shape]);
  return layout;
}

/** What of the picture is in sight, in its own units; null before anything is drawn. */
function useView(place, zoom, layout) {
  const [view, setView] = useState(null);
  useLayoutEffect(() => {
    const element = place.current;
    if (layout === null) return undefined;
    const look = () => {
      const { scrollLeft, scrollTop, clientWidth, clientHeight } = element;
      setView((old) => moved(old, { left: scrollLeft, top: scrollTop, width: clientWidth, height: clientHeight }));
    };
    look();
    element.addEventListener("scroll", look, { passive: true });
    const observer = new ResizeObserver(look);
    observer.observe(element);
    return () => {
      element.removeEventListener("scroll", look);
      observer.disconnect();
    };
  }, [layout, zoom]);
  return view;
}

/** The new view, or the old one while it is near: what is drawn reaches beyond what is seen. */
function moved(old, view) {
  if (old === null || old.width !== view.width || old.height !== view.height) return view;
  const isNear = Math.abs(old.left - view.left) < NEAR_PX && Math.abs(old.top - view.top) < NEAR_PX;
  return isNear ? old : view;
}

const NEAR_PX = 90;

/** The names and ways that are in sight or close to it, and how many ways are left out. */
function seen(layout, view, zoom, focused) {
  const area = view ?? { left: 0, top: 0, width: 2_000, height: 1_000 };
  const [left, right] = [(area.left - 2 * NEAR_PX) / zoom, (area.left + area.width + 2 * NEAR_PX) / zoom];
  const [top, bottom] = [(area.top - 2 * NEAR_PX) / zoom, (area.top + area.height + 2 * NEAR_PX) / zoom];
  const isIn = (name, { x, y, width }) => name === focused || (x + width > left && x - width < right && y > top && y < bottom);
  const names = [...layout.boxes].filter(([name, box]) => isIn(name, box)).map(([name]) => name);
  const found = new Set(names);
  const ways = layout.ways.filter((way) => found.has(way.from) || found.has(way.to));
  if (ways.length <= WAYS_MAX) return { names, ways, hidden: 0 };
  const near = ways.filter((way) => isOf(way, focused));
  return { names, ways: near, hidden: ways.length - near.length };
}

const isOf = (way, name) => way.from === name || way.to === name;

/** Scroll to where a box is in the middle, as far as that can be. */
function bringIn(element, { x, y }, zoom) {
  element.scrollLeft = (x + MARGIN) * zoom - element.clientWidth / 2;
  element.scrollTop = (y + MARGIN) * zoom - element.clientHeight / 2;
}

/** A zoom at which the whole width is seen, but no smaller than `least`. */
function fitting(element, layout, least = ZOOM_READABLE) {
  const wide = element.clientWidth / (layout.width + 2 * MARGIN);
  const high = least === ZOOM_READABLE ? Infinity : element.clientHeight / (layout.height + 2 * MARGIN);
  return Math.max(least, Math.min(1, wide, high));
}

/** The layout with each way as a path, made once. */
function withPaths(layout) {
  const ways = layout.ways.map((way) => ({ ...way, key: `${way.from} ${way.to}`, path: curve(way, layout.boxes) }));
  return { ...layout, ways };
}

/** The way as a path, out of the right side of a box and through its points into the left side of another. */
function curve({ from, to, points }, boxes) {
  const [a, b] = [boxes.get(from), boxes.get(to)];
  const start = { x: a.x + a.width / 2, y: a.y };
  const end = { x: b.x - b.width / 2 - ARROW_PX, y: b.y };
  let path = `M${start.x} ${start.y}`;
  let last = start;
  for (const point of [...(points ?? []).slice(1, -1).filter(({ x }) => x > start.x && x < end.x), end]) {
    const bend = Math.max(12, (point.x - last.x) / 2);
    path += `C${last.x + bend} ${last.y} ${point.x - bend} ${point.y} ${point.x} ${point.y}`;
    last = point;
  }
  return path;
}

/** Left to what it needs, right to what needs it, up and down among its neighbours; Enter chooses. */
function keys(event, focused, layout, { names, needs, after }, { go, select }) {
  const near = {
    ArrowLeft: () => needs.get(focused)[0],
    ArrowRight: () => after.get(focused)[0],
    ArrowUp: () => beside(layout.boxes, focused, -1),
    ArrowDown: () => beside(layout.boxes, focused, 1),
    Home: () => names[0],
    End: () => names.at(-1),
  }[event.key];
  if (near) {
    event.preventDefault();
    const name = near();
    if (name !== undefined) go(name);
  } else if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    select(focused);
  }
}

/** The closest box above or below in about the same column. */
function beside(boxes, name, direction) {
  const own = boxes.get(name);
  let best;
  for (const [other, box] of boxes) {
    const distance = (box.y - own.y) * direction;
    if (distance <= 0 || Math.abs(box.x - own.x) > (box.width + own.width) / 2) continue;
    if (best === undefined || distance < best.distance) best = { other, distance };
  }
  return best?.other;
}
