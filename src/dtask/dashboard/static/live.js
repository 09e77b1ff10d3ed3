// The one stream of a tab, and what it said last: workers, totals, and which jobs changed.
//
// `state` is "connecting" until the first snapshot, "live" while the stream speaks, "stale" when it
// does not, and "signed-out" when this browser has no session. What is shown in any state but
// "live" is the past; the frame says so.
import { address, get, whenSignedOut } from "./api.js";
import { useEffect, useReducer, useRef } from "./html.js";

/** The scheduler sends something every 4 s at least. */
const SILENCE_MS = 10_000;
/** A tab that nobody looks at lets go of its stream after this long. */
const HIDDEN_MS = 30_000;
/** Waits between two tries to connect. */
const RETRY_MS = [500, 1_000, 2_000, 4_000];

/** The last that was heard. Never changed in place, but for `workers`, which `revision` counts. */
let snapshot = {
  state: "connecting",
  at: null, // scheduler's time of the last message
  startedAt: null,
  version: null,
  trying: false, // to connect, for at least the second time
  workers: new Map(), // id -> [id, status, draining, current, max, last heartbeat]
  totals: null,
  revision: 0, // grows whenever `workers` or `totals` changed
  members: 0, // grows whenever a worker came or went
  resets: 0, // grows with each snapshot: whatever else was read before it is old
  restarts: 0, // how often the scheduler was seen to be another process
};

let source = null;
let calls = 0; // what is under way of an earlier one counts no more
let failures = 0;
let retry = null;
let silence = null;
let hiding = null;
let offset_s = null;

const readers = new Set();
const jobReaders = new Set();

/** Seconds since the epoch by the scheduler's clock, whatever this browser's clock says. */
export function now() {
  return offset_s === null ? Date.now() / 1000 : offset_s + performance.now() / 1000;
}

export const look = () => snapshot;

/** The snapshot; the component is drawn again whenever it changes, twice a second at most. */
export function useLive() {
  return useSelected((whole) => whole);
}

/** One part of the snapshot; the component is drawn again only when that part is another. */
export function useSelected(select) {
  const [, redraw] = useReducer((count) => count + 1, 0);
  const chosen = select(snapshot);
  const last = useRef();
  last.current = { select, chosen };
  useEffect(() => {
    const read = () => {
      if (!Object.is(last.current.select(snapshot), last.current.chosen)) redraw();
    };
    readers.add(read);
    read(); // it may have changed between the drawing and this effect
    return () => readers.delete(read);
  }, []);
  return chosen;
}

/**
 * Call `changed({ ids, all })` when jobs changed: `ids` is a set of numbers, and `all` is true when
 * any job may have changed, after a snapshot or when too many did. Twice a second at most.
 */
export function useJobsChanged(changed) {
  const latest = useRef();
  latest.current = changed;
  useEffect(() => {
    const read = (change) => latest.current(change);
    jobReaders.add(read);
    return () => jobReaders.delete(read);
  }, []);
}

/** Call `changed()` when this job may have changed. */
export function useJobChanged(id, changed) {
  useJobsChanged(({ ids, all }) => {
    if (all || ids.has(Number(id))) changed();
  });
}

const tickers = new Set();
setInterval(() => {
  if (!document.hidden) for (const tick of tickers) tick();
}, 1_000);

/** The scheduler's time, drawn again each second: for ages. It stands still when data are stale. */
export function useNow() {
  const [, redraw] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    tickers.add(redraw);
    return () => tickers.delete(redraw);
  }, []);
  return snapshot.state === "live" || snapshot.at === null ? now() : snapshot.at;
}

/** Once, before the first `connect`: heed the tab and the API. */
export function start() {
  whenSignedOut(() => signedOut());
  document.addEventListener("visibilitychange", seen);
  addEventListener("pagehide", hangUp);
  addEventListener("pageshow", (event) => event.persisted && seen());
}

/** Ask whether there is a session, then listen. */
export async function connect() {
  hangUp();
  const mine = calls;
  try {
    const session = await get("session");
    if (mine !== calls) return; // somebody hung up, or called anew
    if (!session.signed_in) return signedOut();
    if (snapshot.state === "signed-out") publish({ state: "connecting" });
    heard(session.now);
    listen();
  } catch {
    if (mine === calls) lost();
  }
}

/** The other tabs of this browser, which share its session. */
const tabs = new BroadcastChannel("dtask-session");
tabs.addEventListener("message", () => connect());

/** Tell the other tabs that somebody signed in or out here. */
export const tellTabs = () => tabs.postMessage("changed");

/** The session is over: nothing more comes, and nothing that came is kept. */
export function signedOut() {
  hangUp();
  publish({ state: "signed-out", workers: new Map(), totals: null, at: null, startedAt: null });
}

function listen() {
  source = new EventSource(address("live"));
  source.addEventListener("reset", (event) => reset(JSON.parse(event.data)));
  source.addEventListener("update", (event) => update(JSON.parse(event.data)));
  source.addEventListener("error", failed);
  watch();
}

function failed() {
  // A browser tries again by itself after a broken connection, but not after a refusal.
  if (source.readyState === EventSource.CLOSED) lost();
  else if (snapshot.state === "live") publish({ state: "stale" });
}

function lost() {
  hangUp();
  publish({ state: snapshot.state === "live" ? "stale" : snapshot.state, trying: true });
  const wait = RETRY_MS[Math.min(failures, RETRY_MS.length - 1)];
  failures += 1;
  retry = setTimeout(connect, wait);
}

function hangUp() {
  calls += 1;
  source?.close();
  source = null;
  clearTimeout(retry);
  clearTimeout(silence);
}

function watch() {
  clearTimeout(silence);
  silence = setTimeout(lost, SILENCE_MS);
}

function heard(at) {
  failures = 0;
  offset_s = at - performance.now() / 1000;
}

function reset(data) {
  heard(data.now);
  watch();
  const restarted = snapshot.startedAt !== null && snapshot.startedAt !== data.started_at;
  publish({
    state: "live",
    trying: false,
    at: data.now,
    startedAt: data.started_at,
    version: data.version,
    workers: new Map(data.workers.map((row) => [row[0], row])),
    totals: data.totals,
    revision: snapshot.revision + 1,
    members: snapshot.members + 1,
    resets: snapshot.resets + 1,
    restarts: snapshot.restarts + (restarted ? 1 : 0),
  });
  tell({ ids: new Set(), all: true });
}

function update(data) {
  heard(data.now);
  watch();
  const { workers } = snapshot;
  const before = workers.size;
  for (const id of data.gone ?? []) workers.delete(id);
  const left = workers.size;
  for (const row of data.workers ?? []) workers.set(row[0], row);
  const moved = left !== before || workers.size !== left;
  publish({
    state: "live",
    at: data.now,
    totals: data.totals,
    revision: snapshot.revision + 1,
    members: snapshot.members + (moved ? 1 : 0),
  });
  if (data.jobs?.length || data.more_jobs) {
    tell({ ids: new Set(data.jobs), all: Boolean(data.more_jobs) });
  }
}

function publish(change) {
  snapshot = { ...snapshot, ...change };
  for (const read of [...readers]) read();
}

function tell(change) {
  for (const read of [...jobReaders]) read(change);
}

function seen() {
  clearTimeout(hiding);
  if (document.hidden) {
    hiding = setTimeout(() => {
      hangUp(); // and try no more until somebody looks
      if (snapshot.state === "live") publish({ state: "stale" });
    }, HIDDEN_MS);
  } else if (source === null) {
    connect(); // also when signed out: it may have been done in another tab
  }
}
