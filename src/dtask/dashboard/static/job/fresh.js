// What is asked about a job, asked again whenever the job changed, but never without pause.
import { useResource } from "../api.js";
import { useEffect, useRef } from "../html.js";
import { useJobChanged } from "../live.js";

/** The least pause between two answers, and how many times as long as the answer took. */
const PAUSE_MS = 400;
const PAUSE_SHARE = 4;

/**
 * `useResource`, fresh while the job moves. Large answers are asked for less often, and those that
 * take long to draw with a longer `pause_ms`.
 */
export function useFresh(jobId, path, query, { pause_ms = PAUSE_MS } = {}) {
  const resource = useResource(path, query);
  useJobChanged(jobId, usePaced(resource.reload, pause_ms));
  return resource;
}

/** A function that does `act`, which is async, at once or after a pause; calls meanwhile are one. */
export function usePaced(act, pause_ms = PAUSE_MS) {
  const pace = useRef({ timer: null, restUntil: 0, busy: false, again: false });
  const latest = useRef();
  latest.current = act;
  useEffect(() => () => clearTimeout(pace.current.timer), []);
  return useRef(() => ask(pace.current, () => latest.current(), pause_ms)).current;
}

function ask(pace, act, pause_ms) {
  if (pace.busy) pace.again = true;
  if (pace.busy || pace.timer !== null) return;
  const go = async () => {
    pace.timer = null;
    pace.busy = true;
    pace.again = false;
    const began = performance.now();
    try {
      await act();
    } finally {
      pace.busy = false;
    }
    const ended = performance.now();
    pace.restUntil = ended + Math.max(pause_ms, PAUSE_SHARE * (ended - began));
    if (pace.again) ask(pace, act, pause_ms);
  };
  pace.timer = setTimeout(go, Math.max(0, pace.restUntil - performance.now()));
}
