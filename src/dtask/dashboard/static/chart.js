// One small chart over time: uPlot in the colours of the theme, with what it says in words.
import uPlot from "./vendor/uplot.js";
import { clock } from "./formats.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Panel } from "./parts.js";

const HEIGHT_PX = 128;
/** A shorter chart than this has seconds on its axis. */
const MINUTES_FROM_S = 600;
const MINUTES = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });

/**
 * A panel with a chart. `times` are epoch seconds; `lines` are `{name, values, colour, fill}` with
 * `colour` a custom property such as "--accent"; `format` makes text of a value. `top` is the least
 * height of the scale. The heading shows the newest values, or those under the pointer.
 */
export function Chart({ title, times, lines, format, top = null, class: more }) {
  const place = useRef();
  const chart = useRef(null);
  const [pointed, setPointed] = useState(null);
  const shape = lines.map((line) => line.name).join();

  useEffect(() => {
    const make = () => {
      chart.current?.destroy();
      chart.current = plotted(place.current, lines, format, top, setPointed);
      chart.current.setData([times, ...lines.map((line) => line.values)]);
    };
    make();
    const observer = new ResizeObserver(([entry]) => {
      chart.current.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT_PX });
    });
    observer.observe(place.current);
    addEventListener("themechange", make);
    return () => {
      removeEventListener("themechange", make);
      observer.disconnect();
      chart.current.destroy();
      chart.current = null;
    };
  }, [shape]);

  useEffect(() => {
    chart.current.setData([times, ...lines.map((line) => line.values)]);
  }, [times]);

  const index = pointed !== null && pointed < times.length ? pointed : times.length - 1;
  return html`
    <${Panel} title=${title} class="chart ${more ?? ""}"
      aside=${pointed !== null && times.length > 0 ? clock(times[index]) : null}>
      <p class="readings">
        ${lines.map((line) => html`
          <span key=${line.name} class="reading">
            <i class="key" style=${{ background: `var(${line.colour})` }} aria-hidden="true"></i>
            <b>${format(line.values[index] ?? null)}</b> ${line.name}
          </span>`)}
      </p>
      <div class="plot" ref=${place} role="img" aria-label=${inWords(title, times, lines, format)}></div>
    <//>
  `;
}

/** The chart for whoever can't see it: the range of each line, and where it stands. */
function inWords(title, times, lines, format) {
  if (times.length === 0) return `${title}: nothing measured yet.`;
  const told = lines.map(({ name, values }) => {
    const known = values.filter((value) => value !== null);
    if (known.length === 0) return `${name}: none`;
    const [low, high] = [Math.min(...known), Math.max(...known)];
    return `${name}: from ${format(low)} to ${format(high)}, last ${format(known.at(-1))}`;
  });
  return `${title} since ${clock(times[0])}. ${told.join(". ")}.`;
}

/** The times of the axis; none while nothing was measured, and none that would be cut off. */
function named(chart, ticks) {
  const times = chart.data[0];
  if (times.length < 2) return ticks.map(() => "");
  const isBrief = times.at(-1) - times[0] < MINUTES_FROM_S;
  const half = (isBrief ? 56 : 36) / 2;
  return ticks.map((tick) => {
    const at = chart.valToPos(tick, "x");
    if (at + half > chart.bbox.width / devicePixelRatio + PADDING_PX) return "";
    return isBrief ? clock(tick) : MINUTES.format(tick * 1000);
  });
}

/** Seconds between two times of the axis. */
const STEPS_S = [1, 2, 5, 10, 15, 30, 60, 120, 180, 300, 600, 900, 1800, 3600];
const PADDING_PX = 4;

function plotted(place, lines, format, top, point) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: colour("--text-3"),
    font: `11px ${colour("--font")}`,
    grid: { stroke: colour("--line"), width: 1 },
    ticks: { show: false },
  };
  return new uPlot({
    width: Math.max(40, place.clientWidth),
    height: HEIGHT_PX,
    legend: { show: false },
    padding: [8, PADDING_PX, 0, 0],
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
    scales: { y: { range: (_, __, high) => [0, Math.max(top ?? 0, (high ?? 0) * 1.08) || 1] } },
    axes: [
      { ...axis, grid: { show: false }, size: 22, space: 64, incrs: STEPS_S, values: named },
      { ...axis, size: 40, gap: 4, space: 30, values: (_, ticks) => ticks.map((tick) => format(tick)) },
    ],
    series: [
      {},
      ...lines.map((line) => ({
        stroke: colour(line.colour),
        fill: line.fill ? `${colour(line.colour)}1f` : undefined,
        width: 1.5,
        points: { show: false },
      })),
    ],
    hooks: { setCursor: [(self) => point(self.cursor.idx ?? null)] },
  }, [[]], place);
}
