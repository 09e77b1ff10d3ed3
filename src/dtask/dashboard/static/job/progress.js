// How far a task or a job is: counts of its elements.
import { count } from "../formats.js";
import { told } from "./grid_cells.js";

const ENDS = ["succeeded", "failed", "cancelled", "skipped"];

/** Whether nothing but a retry moves it any more. */
export const isEnd = (state) => ENDS.includes(state);

/** How many elements a task has; 1 if it is no array. */
export function totalOf(task) {
  if (!task.counts) return 1;
  return Object.values(task.counts).reduce((sum, each) => sum + each, 0);
}

/** How many of them have ended. */
export function endedOf(task) {
  if (!task.counts) return isEnd(task.state) ? 1 : 0;
  return ENDS.reduce((sum, state) => sum + (task.counts[state] ?? 0), 0);
}

/** The counts by state of all tasks of a job together, elements counted one by one. */
export function countsOf(tasks) {
  const counts = {};
  for (const task of tasks) {
    for (const [state, each] of Object.entries(task.counts ?? { [task.state]: 1 })) {
      counts[state] = (counts[state] ?? 0) + each;
    }
  }
  return counts;
}

/** `running, 12 of 16 ended (1 failed, 11 succeeded)` of an array. */
export function progressOf(task) {
  const counts = Object.fromEntries(ENDS.map((state) => [state, task.counts[state] ?? 0]));
  const ended = endedOf(task);
  const what = ended > 0 ? ` (${told(counts)})` : "";
  return `${task.state}, ${count(ended)} of ${count(totalOf(task))} ended${what}`;
}
