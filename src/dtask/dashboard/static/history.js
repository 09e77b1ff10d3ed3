// The last half hour of the scheduler's figures: read once, then carried on from the stream.
import { useResource } from "./api.js";
import { useEffect, useRef } from "./html.js";

/** Points that are kept; the scheduler keeps no more. */
const POINTS_MAX = 900;

/** What a message of the stream adds to each series. */
const READ = {
  placements: (totals) => totals.rates.placements,
  refusals: (totals) => totals.rates.refusals,
  placement_p99_ms: (totals) => totals.placement_p99_ms,
  queued: (totals) => totals.tasks?.queued ?? null,
  running: (totals) => totals.tasks?.running ?? null,
  occupied: (totals) => totals.occupied,
  slots: (totals) => totals.slots,
};
const NAMES = Object.keys(READ);

/** `{times, series, error}`; `times` is another array whenever anything was added. */
export function useHistory(live) {
  const { data, error, reload } = useResource("history");
  const track = useRef({ from: null, times: [], series: {} });
  const begunAt = useRef(live.resets);
  useEffect(() => {
    if (live.resets !== begunAt.current) reload(); // there was a gap
  }, [live.resets]);
  if (data && track.current.from !== data) track.current = begun(data);
  if (data && live.state === "live") carryOn(track.current, live, data.every_s);
  const { times } = track.current;
  return { times, series: Object.fromEntries(NAMES.map((name) => [name, track.current.series[name] ?? []])), error };
}

function begun(data) {
  const length = Math.max(...NAMES.map((name) => data.series[name].length));
  const first = data.ends_at - (length - 1) * data.every_s;
  return {
    from: data,
    times: Array.from({ length }, (_, index) => first + index * data.every_s),
    series: Object.fromEntries(NAMES.map((name) => [name, [...data.series[name]]])),
  };
}

function carryOn(track, live, every_s) {
  const last = track.times.at(-1) ?? -Infinity;
  if (live.at - last < every_s) return;
  track.times = [...track.times, live.at].slice(-POINTS_MAX);
  for (const name of NAMES) {
    track.series[name] = [...track.series[name], READ[name](live.totals)].slice(-POINTS_MAX);
  }
}
