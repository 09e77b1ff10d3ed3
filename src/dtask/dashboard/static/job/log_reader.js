// Reads the log of one attempt to its end, also while it is written and over broken connections.
import { ApiError, get, getRaw } from "../api.js";

const RETRY_MS = [500, 1_000, 2_000, 4_000];

/** A tab that nobody looks at lets go of its connection: a browser has few of them for one host. */
const HIDDEN_MS = 30_000;

/**
 * Read from `offset` on until `signal` aborts or the attempt has ended.
 *
 * `place` is `{jobId, task, index, attempt, stream}`; `take(bytes)` gets what comes, and
 * `said(state, error)` how it stands: "following", "resting" (nobody looks), "broken" (it is tried
 * again), "over", "refused".
 */
export async function readLog(place, offset, { take, said, signal }) {
  let at = offset;
  let failures = 0;
  while (!signal.aborted) {
    const watch = new Watch(signal);
    try {
      await copy(place, at, watch.signal, (piece) => {
        at += piece.length;
        failures = 0;
        take(piece);
      }, said);
      if (await hasEnded(place, signal)) {
        said("over");
        return;
      }
    } catch (error) {
      if (signal.aborted) return;
      if (isFinal(error)) {
        said("refused", error);
        return;
      }
    } finally {
      watch.end();
    }
    if (watch.signal.aborted) {
      said("resting");
      await untilSeen(signal);
    } else {
      said("broken");
      await pause(RETRY_MS[Math.min(failures, RETRY_MS.length - 1)], signal);
      failures += 1;
    }
  }
}

async function copy(place, offset, signal, take, said) {
  const query = { ...whose(place), stream: place.stream, offset, follow: 1 };
  const answer = await getRaw(pathOf(place, "log"), query, { signal });
  said("following");
  const reader = answer.body.getReader();
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) take(piece.value);
}

/** The first `limit` bytes, without waiting for more. Throws ApiError. */
export async function readStart(place, limit, { take, signal }) {
  const query = { ...whose(place), stream: place.stream, offset: 0, limit };
  const answer = await getRaw(pathOf(place, "log"), query, { signal });
  take(new Uint8Array(await answer.arrayBuffer()));
}

/** The path of `what` of a task, below /api/v1. */
export function pathOf({ jobId, task }, what) {
  return `jobs/${jobId}/tasks/${encodeURIComponent(task)}/${what}`;
}

/** The query that names the attempt. */
export function whose({ index, attempt }) {
  return { index, attempt };
}

/** Whether asking again would be answered the same. 429 means: later. */
function isFinal(error) {
  return error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429;
}

/** Whether the attempt has: a scheduler that stops ends the answer, too. */
async function hasEnded(place, signal) {
  const rows = await get(pathOf(place, "attempts"), { index: place.index, limit: 1_000 }, { signal });
  const row = rows.find(({ number }) => number === place.attempt);
  return row !== undefined && row.state !== "scheduled" && row.state !== "running";
}

/** A signal that aborts with `outer`, and when the tab has been hidden for a while. */
class Watch {
  #controller = new AbortController();
  #outer;
  #timer = null;
  #abort = () => this.#controller.abort();
  #look = () => {
    clearTimeout(this.#timer);
    if (document.hidden) this.#timer = setTimeout(this.#abort, HIDDEN_MS);
  };

  constructor(outer) {
    this.#outer = outer;
    outer.addEventListener("abort", this.#abort);
    document.addEventListener("visibilitychange", this.#look);
    this.#look();
  }

  get signal() {
    return this.#controller.signal;
  }

  end() {
    clearTimeout(this.#timer);
    this.#outer.removeEventListener("abort", this.#abort);
    document.removeEventListener("visibilitychange", this.#look);
  }
}

function untilSeen(signal) {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      document.removeEventListener("visibilitychange", done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    document.addEventListener("visibilitychange", done);
    signal.addEventListener("abort", done);
  });
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
