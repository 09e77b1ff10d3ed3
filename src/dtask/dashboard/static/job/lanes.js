// The attempts of a job on lanes: those of a task below each other only while they overlap.
/** Lanes of one task; what has no room in them is counted. */
export const LANES_MAX = 24;

/**
 * `[{task, lanes: [[attempt, ..], ..], more}]` in the order of `tasks`, and the times of the first
 * beginning and the last end; what runs goes on until `now`.
 */
export function lanesOf(attempts, tasks, now) {
  const byTask = new Map(tasks.map((task) => [task, []]));
  for (const attempt of attempts) byTask.get(attempt.task)?.push(attempt);
  const rows = [];
  for (const [task, own] of byTask) {
    if (own.length === 0) continue;
    own.sort((a, b) => a.scheduled_at - b.scheduled_at);
    rows.push({ task, ...packed(own, now) });
  }
  const from = attempts.reduce((least, { scheduled_at }) => Math.min(least, scheduled_at), Infinity);
  const to = attempts.reduce((most, { ended_at }) => Math.max(most, ended_at ?? now), -Infinity);
  return { rows, from, to };
}

function packed(attempts, now) {
  const lanes = [];
  const ends = [];
  let more = 0;
  for (const attempt of attempts) {
    let lane = ends.findIndex((end) => end <= attempt.scheduled_at);
    if (lane < 0 && lanes.length < LANES_MAX) {
      lane = lanes.length;
      lanes.push([]);
    }
    if (lane < 0) {
      more += 1;
    } else {
      lanes[lane].push(attempt);
      ends[lane] = attempt.ended_at ?? Math.max(now, attempt.scheduled_at);
    }
  }
  return { lanes, more };
}

/** Round times for an axis: `[at, ..]` seconds from its beginning, at most `most` of them. */
export function ticks(seconds, most) {
  const step = STEPS_S.find((each) => seconds / each <= most) ?? Math.ceil(seconds / most / 86_400) * 86_400;
  const found = [];
  for (let at = 0; at <= seconds; at += step) found.push(at);
  return found;
}

const STEPS_S = [
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600,
  7_200, 10_800, 21_600, 43_200, 86_400,
];
