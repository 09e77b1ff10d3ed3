// How far a job or an array is, as a bar of its states.
import { count } from "../formats.js";
import { html } from "../html.js";
import { told } from "./grid_cells.js";

/** From the left: what is done first. Pending and queued are the track itself. */
const PARTS = ["succeeded", "failed", "cancelled", "skipped", "running", "scheduled"];
const ENDED = new Set(["succeeded", "failed", "cancelled", "skipped"]);

/** `counts` by state; the numbers beside it are those that ended, of all. */
export function Progress({ counts, numbers = true }) {
  const total = Object.values(counts).reduce((sum, each) => sum + each, 0);
  const ended = Object.entries(counts).reduce((sum, [state, each]) => sum + (ENDED.has(state) ? each : 0), 0);
  return html`
    <span class="progress" title=${told(counts)}>
      <span class="progress-track" aria-hidden="true">
        ${PARTS.map((state) => counts[state] > 0 && html`
          <span key=${state} class=${`progress-part is-${state}`} style=${{ width: `${(counts[state] / total) * 100}%` }}></span>`)}
      </span>
      ${numbers && html`<span class="progress-numbers">${count(ended)}<span class="dim"> / ${count(total)}</span></span>`}
    </span>
  `;
}

/** The same for a row of the list of jobs: `{total, ended, failed, cancelled, skipped}`. */
export function TaskProgress({ tasks }) {
  if (!tasks) return html`<span class="none">–</span>`;
  const { total, ended, failed, cancelled, skipped } = tasks;
  const succeeded = ended - failed - cancelled - skipped;
  return html`
    <span class="progress-row">
      <${Progress} counts=${{ succeeded, failed, cancelled, skipped, pending: total - ended }} />
      ${failed > 0 && html`<span class="tone-bad nowrap">${count(failed)} failed</span>`}
    </span>
  `;
}
