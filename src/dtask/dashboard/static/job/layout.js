// Where the tasks of a graph are drawn.
import { ranked } from "./ranks.js";

/** What dagre lays out in a second; above it, and if it takes longer, columns do. */
export const DAGRE_TASKS_MAX = 300;
export const DAGRE_WAYS_MAX = 600;
export const DAGRE_MS_MAX = 4_000;

/**
 * `{boxes, ways, width, height}` of the tasks `names`, `needs` being a Map of lists: each box with
 * its middle, each way with its points, or null where it is a plain curve.
 */
export function laidOut(names, needs, signal) {
  const ways = names.reduce((sum, name) => sum + needs.get(name).length, 0);
  if (names.length > DAGRE_TASKS_MAX || ways > DAGRE_WAYS_MAX) {
    return Promise.resolve(ranked(names, needs));
  }
  return new Promise((resolve) => {
    const worker = new Worker(new URL("./layout_worker.js", import.meta.url), { type: "module" });
    const timer = setTimeout(() => done(ranked(names, needs)), DAGRE_MS_MAX);
    const done = (layout) => {
      clearTimeout(timer);
      worker.terminate();
      if (layout !== null) resolve(layout);
    };
    worker.onmessage = ({ data }) => done(data);
    worker.onerror = () => done(ranked(names, needs));
    signal.addEventListener("abort", () => done(null));
    worker.postMessage({ names, needs });
  });
}
