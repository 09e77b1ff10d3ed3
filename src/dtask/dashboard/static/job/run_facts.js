// One attempt in facts: how it ended, where and when it ran, what it used, what it left.
import { address } from "../api.js";
import { bytes, duration } from "../formats.js";
import { html } from "../html.js";
import { Lasting, StateBadge, Time } from "../parts.js";
import { Link, pathOf as pagePath } from "../router.js";
import { causeText, exitText, shownState } from "./cause.js";
import { pathOf, whose } from "./log_reader.js";

/** `place` is `{jobId, task, index, attempt}`, `row` the attempt. */
export function RunFacts({ place, row }) {
  const held = row.state === "running" || row.state === "scheduled";
  return html`
    <dl class="facts">
      <dt>State</dt><dd><${StateBadge} state=${shownState(row)} />${causeText(row) && html` <span class="dim">${causeText(row)}</span>`}</dd>
      ${row.error && html`<dt>Error</dt><dd class="break">${row.error}</dd>`}
      <dt>Worker</dt><dd><${Link} to=${pagePath("workers", row.worker_id)}>${row.worker_id}<//></dd>
      <dt>Given to it</dt><dd><${Time} at=${row.scheduled_at} /></dd>
      <dt>Started</dt><dd>${row.started_at === undefined ? html`<span class="dim">not yet</span>` : html`<${Time} at=${row.started_at} />`}</dd>
      <dt>${held ? "Runs for" : "Took"}</dt><dd><${Lasting} from=${row.started_at} to=${held ? null : (row.ended_at ?? row.started_at)} /></dd>
      ${row.exit_code !== undefined && row.cause !== "exit" && html`<dt>Ended by</dt><dd>${exitText(row.exit_code)}</dd>`}
      <dt>CPU time</dt><dd>${duration(row.cpu_s)}</dd>
      <dt>Most memory</dt><dd>${bytes(row.max_rss_bytes)}</dd>
      <dt>Result</dt><dd>${resultOf(place, row, held)}</dd>
      <dt>Fence</dt><dd class="dim">${row.fence}</dd>
    </dl>
  `;
}

function resultOf(place, row, held) {
  if (!row.result_bytes) return html`<span class="dim">${held ? "not yet" : "none"}</span>`;
  const { jobId, task, index, attempt } = place;
  const name = [jobId, task, index, "attempt", attempt, "result"].filter((part) => part !== null).join("-");
  return html`<a href=${address(pathOf(place, "result"), whose(place)).href} download=${name}>${bytes(row.result_bytes)}</a>`;
}
