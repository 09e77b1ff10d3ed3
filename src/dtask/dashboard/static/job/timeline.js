// When the attempts of a job ran: a lane for each that ran at the same time, a bar for each attempt.
import { count, duration, plural } from "../formats.js";
import { html, useLayoutEffect, useMemo, useRef, useState } from "../html.js";
import { now, useNow } from "../live.js";
import { ErrorNote, Loading } from "../parts.js";
import { causeText, shownState } from "./cause.js";
import { fitted } from "./fitted.js";
import { lanesOf, ticks } from "./lanes.js";
import { useFresh } from "./fresh.js";

export const ATTEMPTS_MAX = 1_000;
/** While they move, fewer are drawn, and not with each change. */
const LIVE_MAX = 400;
const LIVE_PAUSE_MS = 1_500;

const LANE_PX = 16;
const BAR_PX = 12;
const GAP_PX = 8;
const AXIS_PX = 24;
const TICK_PX = 90;

/** `names` are the tasks in their order; `select({task, index, attempt})` opens an attempt. */
export function Timeline({ jobId, names, live, select, selected }) {
  const limit = live ? LIVE_MAX : ATTEMPTS_MAX;
  const { data, error, reload } = useFresh(jobId, `jobs/${jobId}/attempts`, { limit }, { pause_ms: LIVE_PAUSE_MS });
  if (error && !data) return html`<${ErrorNote} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} what="Loading the attempts" />`;
  if (data.length === 0) return html`<p class="panel-note dim">No worker has been given any of it.</p>`;
  const picture = html`<${live ? LivePicture : Picture} attempts=${data} names=${names} select=${select} selected=${selected} at=${now()} />`;
  return html`
    ${picture}
    ${data.length === limit && html`<p class="panel-note dim">The newest ${count(limit)} attempts.</p>`}
  `;
}

/** Bars of what runs grow with each second. */
function LivePicture(props) {
  return html`<${Picture} ...${props} at=${useNow()} />`;
}

function Picture({ attempts, names, at, select, selected }) {
  const place = useRef();
  const width = useInner(place);
  const { rows, from, to } = useMemo(() => lanesOf(attempts, names, at), [attempts, at]);
  const span = Math.max(0.001, to - from);
  const labels = Math.min(200, Math.max(64, ...rows.map(({ task }) => 7 * Math.min(26, task.length) + 16)), width * 0.34);
  const inner = Math.max(60, width - labels - 12);
  const x = (time) => labels + ((time - from) / span) * inner;
  let top = AXIS_PX;
  const placed = rows.map((row) => {
    const own = { ...row, top };
    top += row.lanes.length * LANE_PX + GAP_PX;
    return own;
  });
  return html`
    <div class="timeline" ref=${place}>
      ${width > 0 && html`
        <svg width=${width} height=${top} role="img"
             aria-label=${`Timeline of ${plural(attempts.length, "attempt")} over ${duration(span)}. The list of attempts says the same.`}>
          ${ticks(span, Math.max(2, Math.floor(inner / TICK_PX))).map((tick) => html`
            <g key=${tick} class="timeline-tick"><line x1=${x(from + tick)} x2=${x(from + tick)} y1=${AXIS_PX - 6} y2=${top} />
              <text x=${x(from + tick) + 3} y="12">${tick === 0 ? "0" : duration(tick)}</text></g>`)}
          ${placed.map((row) => html`<${Row} key=${row.task} row=${row} x=${x} at=${at} labels=${labels} select=${select} selected=${selected} />`)}
        </svg>`}
    </div>
  `;
}

function Row({ row, x, at, labels, select, selected }) {
  const label = fitted(row.task, labels - 12, "12px");
  return html`
    <g transform=${`translate(0 ${row.top})`}>
      <text class="timeline-name" x="0" y=${LANE_PX / 2 + 4}><title>${row.task}</title>${label}</text>
      ${row.more > 0 && html`<text class="timeline-more" x="0" y=${LANE_PX * 1.5 + 4}>${`+ ${count(row.more)} more`}</text>`}
      ${row.lanes.map((lane, number) => lane.map((attempt) => html`
        <${Bar} key=${`${attempt.index} ${attempt.number}`} attempt=${attempt} y=${number * LANE_PX} x=${x} at=${at} select=${select}
                isSelected=${isSame(attempt, selected)} />`))}
    </g>
  `;
}

function Bar({ attempt, y, x, at, select, isSelected }) {
  const left = x(attempt.scheduled_at);
  const started = x(attempt.started_at ?? attempt.ended_at ?? Math.max(at, attempt.scheduled_at));
  const right = Math.max(left + 3, x(attempt.ended_at ?? Math.max(at, attempt.scheduled_at)));
  const top = y + (LANE_PX - BAR_PX) / 2;
  return html`
    <g class=${`timeline-bar is-${attempt.state} ${isSelected ? "selected" : ""}`} onClick=${() => select(attempt)}>
      <title>${titleOf(attempt, at)}</title>
      ${started - left >= 1 && html`<rect class="timeline-wait" x=${left} y=${top} width=${right - left} height=${BAR_PX} rx="2" />`}
      <rect class="timeline-run" x=${Math.min(started, right - 2)} y=${top} width=${Math.max(2, right - started)} height=${BAR_PX} rx="2" />
    </g>
  `;
}

function isSame(attempt, selected) {
  return selected !== null && attempt.task === selected.task && attempt.number === selected.attempt && (attempt.index ?? null) === selected.index;
}

function titleOf(attempt, at) {
  const whose = `${attempt.task}${attempt.index === undefined ? "" : `[${attempt.index}]`}#${attempt.number}`;
  const took = attempt.started_at === undefined ? "not started" : duration(Math.max(0, (attempt.ended_at ?? at) - attempt.started_at));
  return [whose, shownState(attempt), causeText(attempt), took, `on ${attempt.worker_id}`].filter(Boolean).join(", ");
}

function useInner(place) {
  const [width, setWidth] = useState(0);
  useLayoutEffect(() => {
    const observer = new ResizeObserver(() => setWidth(Math.floor(place.current.clientWidth)));
    observer.observe(place.current);
    return () => observer.disconnect();
  }, []);
  return width;
}
