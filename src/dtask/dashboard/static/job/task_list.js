// The tasks of a job as a list: what the graph shows, in words; and the better view of a long one.
import { count, duration } from "../formats.js";
import { html, useState } from "../html.js";
import { Lasting, StateBadge, Typed } from "../parts.js";
import { Link, pathOf } from "../router.js";
import { CauseText } from "./cause.js";
import { Progress } from "./progress_bar.js";
import { countsOf } from "./progress.js";

/** Rows that are drawn; the rest is found by its name. */
const ROWS_MAX = 200;

/** `tasks` are entries `[name, summary]`; `link(name)` gives what a link to one needs. */
export function TaskList({ tasks, selected, link }) {
  const [text, setText] = useState("");
  const wanted = text.trim().toLowerCase();
  const found = wanted === "" ? tasks : tasks.filter(([name, task]) => name.toLowerCase().includes(wanted) || task.state === wanted);
  const rows = found.slice(0, ROWS_MAX);
  return html`
    ${tasks.length > 20 && html`
      <div class="filters in-panel"><${Typed} label="Name or state" value=${text} change=${setText} placeholder="tile, failed" wide /></div>`}
    <div class="table-place">
      <table class="cards">
        <thead><tr>
          <th scope="col">Task</th><th scope="col">State</th><th scope="col">Progress</th><th scope="col">Needs</th><th scope="col">Worker</th>
          <th scope="col" class="number">Attempts</th><th scope="col" class="number">Took</th>
        </tr></thead>
        <tbody>${rows.map(([name, task]) => html`<${Row} key=${name} name=${name} task=${task} isSelected=${name === selected} link=${link} />`)}</tbody>
      </table>
    </div>
    ${found.length > rows.length && html`<p class="panel-note dim">${`${count(rows.length)} of ${count(found.length)} tasks. Type a name to find others.`}</p>`}
    ${found.length === 0 && html`<p class="panel-note dim">No task has this in its name, or is in this state.</p>`}
  `;
}

function Row({ name, task, isSelected, link }) {
  return html`
    <tr class=${isSelected ? "selected" : ""}>
      <th scope="row"><${Link} ...${link(name)} class="break" aria-current=${isSelected ? "true" : undefined}>${name}<//></th>
      <td data-label="State"><span class="state-cell"><${StateBadge} state=${task.state} /><${CauseText} row=${task} /></span></td>
      <td data-label="Progress">${task.counts ? html`<${Progress} counts=${countsOf([task])} />` : html`<span class="none">–</span>`}</td>
      <td data-label="Needs" class="break">${needsText(task.needs)}${task.when === "all_done" ? html` <span class="tag" title="It runs whatever became of them">all done</span>` : ""}</td>
      <td data-label="Worker">${task.worker_id ? html`<${Link} to=${pathOf("workers", task.worker_id)} class="break">${task.worker_id}<//>` : html`<span class="none">–</span>`}</td>
      <td data-label="Attempts" class="number">${task.counts ? html`<span class="none">–</span>` : count(task.number ?? 0)}</td>
      <td data-label="Took" class="number">${tookOf(task)}</td>
    </tr>
  `;
}

const NEEDS_SHOWN = 6;

function needsText(needs = []) {
  if (needs.length === 0) return html`<span class="none">–</span>`;
  const more = needs.length - NEEDS_SHOWN;
  return needs.slice(0, NEEDS_SHOWN).join(", ") + (more > 0 ? `, and ${count(more)} more` : "");
}

function tookOf(task) {
  if (task.started_at === undefined) return html`<span class="none">–</span>`;
  if (task.state === "running") return html`<${Lasting} from=${task.started_at} />`;
  return task.ended_at === undefined ? html`<span class="none">–</span>` : duration(Math.max(0, task.ended_at - task.started_at));
}
