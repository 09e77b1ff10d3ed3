// The workers of the table: what the API says of each, brought up to date by the stream.
import { useResource } from "./api.js";
import { useEffect, useMemo, useRef } from "./html.js";
import { standing } from "./fleet.js";

/** Tags come by asking, not by the stream: so often at most when workers come and go, ... */
const SETTLE_MS = 2_000;
/** ... and so often in any case, for heartbeats and the tags of restarted workers: a few are asked
 * about more often than thousands. */
const REFRESH_MS = 5_000;
const REFRESH_MANY_MS = 60_000;
export const MANY = 500;
/** Rows keep their places for so long, or nobody could point at one. Their figures don't wait. */
const SETTLED_S = 2;

/**
 * `{rows, wrong, error, loading}`: rows are `{worker, id, address, tags, misses, status, standing,
 * used, total, heartbeat}`. `misses` is null unless `requires` is given and right; `wrong` says what
 * is wrong with it, and `error` why there are no newer rows. Whoever shows a row shows it `current`.
 */
export function useRoster(live, requires) {
  const asked = useResource(requires ? "workers" : null, { requires });
  const wrong = asked.error?.field?.startsWith("requires") ? asked.error : null;
  const plain = useResource(requires && !wrong ? null : "workers");
  const { data, error, reload } = requires && !wrong ? asked : plain;
  const many = live.workers.size > MANY;
  const last = useRef(null);
  if (data) last.current = data;
  const known = useRef(live.members);
  useEffect(() => {
    if (known.current === live.members) return undefined;
    known.current = live.members;
    const timer = setTimeout(reload, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [live.members]);
  useEffect(() => {
    const timer = setInterval(reload, many ? REFRESH_MANY_MS : REFRESH_MS);
    return () => clearInterval(timer);
  }, [reload, many]);
  const answer = data ?? last.current; // while another question is asked, the one of before
  const sorted = useMemo(() => (answer ? [...answer].sort(byId) : []), [answer]);
  const beat = Math.floor(live.at / SETTLED_S);
  const rows = useMemo(() => merged(sorted, live.workers), [sorted, live.members, beat]);
  return { rows, wrong, error, loading: answer === null, answered: data !== null };
}

const COLLATOR = new Intl.Collator("en", { numeric: true });
const byId = (a, b) => COLLATOR.compare(a.worker_id, b.worker_id);

const merged = (sorted, workers) =>
  sorted.filter((worker) => workers.has(worker.worker_id)) // the others are gone since
    .map((worker) => joined(worker, workers.get(worker.worker_id)));

/** A row as of now. */
export function current(row, workers) {
  const now = workers.get(row.id);
  return now === undefined ? row : joined(row.worker, now);
}

/** What was asked for and what was streamed since. */
const joined = (worker, now) => ({
  worker, // the same as long as nothing but the figures of the stream changed
  id: worker.worker_id,
  address: worker.address,
  tags: worker.resource_tags,
  misses: worker.misses ?? null,
  status: now[1],
  standing: standing(now),
  used: now[3],
  total: now[4],
  heartbeat: Math.max(now[5], worker.last_heartbeat),
});

const RANKS = { offline: 0, suspect: 1, draining: 2, online: 3 };

/** What the table can be sorted by; rows come in the order of their ids, so equals stay in it. */
const ORDERS = {
  id: () => 0,
  address: (a, b) => COLLATOR.compare(a.address, b.address),
  status: (a, b) => RANKS[a.standing] - RANKS[b.standing],
  load: (a, b) => a.used / a.total - b.used / b.total,
  heartbeat: (a, b) => b.heartbeat - a.heartbeat,
};

/** The rows that pass the filters, in order; those that match a requirement come first. */
export function chosen(rows, { text, status, only, sort, down }) {
  const wanted = text.toLowerCase();
  const order = ORDERS[sort] ?? ORDERS.id;
  const sign = down ? -1 : 1;
  const given = down && order === ORDERS.id ? [...rows].reverse() : rows;
  return given
    .filter((row) => row.id.toLowerCase().includes(wanted) && (!status || inStatus(row, status)))
    .filter((row) => !only || row.misses === null || row.misses.length === 0)
    .sort((a, b) => missing(a) - missing(b) || sign * order(a, b));
}

const missing = (row) => (row.misses?.length ? 1 : 0);

const inStatus = (row, status) =>
  status === "draining" ? row.standing === "draining" : row.status === status;

/** Of a requirement: who meets it, who of them could take a task now, and what the others miss. */
export function verdict(rows) {
  const matching = rows.filter((row) => row.misses?.length === 0);
  const free = matching.filter((row) => row.standing !== "offline" && row.standing !== "draining" && row.used < row.total);
  const missed = new Map();
  for (const row of rows) {
    for (const one of row.misses ?? []) missed.set(one, (missed.get(one) ?? 0) + 1);
  }
  return { matching: matching.length, free: free.length, missed: [...missed].sort((a, b) => b[1] - a[1]) };
}
