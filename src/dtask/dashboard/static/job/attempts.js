// Attempts as a table: where each ran, how it ended, and what it used.
import { bytes, count, duration } from "../formats.js";
import { html, useState } from "../html.js";
import { ErrorNote, Lasting, Loading, StateBadge, Time } from "../parts.js";
import { Link, pathOf } from "../router.js";
import { CauseText, shownState } from "./cause.js";
import { ATTEMPTS_MAX } from "./timeline.js";
import { useFresh } from "./fresh.js";

const ROWS = 20;
const PAUSE_MS = 1_000;

/** All attempts of a job, the newest first. `link(attempt)` gives what a link to one needs. */
export function JobAttempts({ jobId, link, selected }) {
  const { data, error, reload } = useFresh(jobId, `jobs/${jobId}/attempts`, { limit: ATTEMPTS_MAX }, { pause_ms: PAUSE_MS });
  if (error && !data) return html`<${ErrorNote} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} what="Loading the attempts" />`;
  if (data.length === 0) return html`<p class="panel-note dim">No worker has been given any of it.</p>`;
  return html`<${Attempts} rows=${data} link=${link} selected=${selected} named />`;
}

/** `rows` as the API gives them; `named`: of several tasks. `selected` is `{task, index, attempt}`. */
export function Attempts({ rows, link, selected, named = false }) {
  const [shown, setShown] = useState(ROWS);
  return html`
    <div class="table-place">
      <table class="cards">
        <thead><tr>
          <th scope="col">Attempt</th><th scope="col">State</th><th scope="col">Worker</th><th scope="col">Started</th>
          <th scope="col" class="number">Waited</th><th scope="col" class="number">Took</th><th scope="col" class="number">CPU</th>
          <th scope="col" class="number">Memory</th><th scope="col" class="number">Log</th>
        </tr></thead>
        <tbody>${rows.slice(0, shown).map((row) => html`
          <${Row} key=${`${row.task} ${row.index} ${row.number}`} row=${row} link=${link} named=${named}
                  isSelected=${row.number === selected?.attempt && (row.index ?? null) === selected.index && (!named || row.task === selected.task)} />`)}</tbody>
      </table>
    </div>
    ${rows.length > shown && html`
      <p class="panel-note"><button type="button" class="link" onClick=${() => setShown(shown + 10 * ROWS)}>Show more of ${count(rows.length)}</button></p>`}
  `;
}

function Row({ row, link, named, isSelected }) {
  const element = row.index === undefined ? "" : `[${row.index}]`;
  const held = row.state === "running" || row.state === "scheduled";
  const written = (row.stdout_bytes ?? 0) + (row.stderr_bytes ?? 0);
  return html`
    <tr class=${isSelected ? "selected" : ""}>
      <th scope="row"><${Link} ...${link(row)} class="break" aria-current=${isSelected ? "true" : undefined}>${named ? row.task : ""}${element}#${row.number}<//></th>
      <td data-label="State"><span class="state-cell"><${StateBadge} state=${shownState(row)} /><${CauseText} row=${row} /></span></td>
      <td data-label="Worker"><${Link} to=${pathOf("workers", row.worker_id)} class="break">${row.worker_id}<//></td>
      <td data-label="Started"><${Time} at=${row.started_at} /></td>
      <td data-label="Waited" class="number">${row.started_at === undefined ? html`<span class="none">–</span>` : duration(row.started_at - row.scheduled_at)}</td>
      <td data-label="Took" class="number"><${Lasting} from=${row.started_at} to=${held ? null : (row.ended_at ?? row.started_at)} /></td>
      <td data-label="CPU" class="number">${duration(row.cpu_s)}</td>
      <td data-label="Memory" class="number">${bytes(row.max_rss_bytes)}</td>
      <td data-label="Log" class="number">${held ? html`<span class="none">–</span>` : bytes(written)}</td>
    </tr>
  `;
}
