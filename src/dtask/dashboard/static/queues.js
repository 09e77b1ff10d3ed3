// The queues: how long the lines are, what limits them, and who has waited longest.
import { count } from "./formats.js";
import { html } from "./html.js";
import { Empty, Lasting, Panel, StateBadge } from "./parts.js";
import { Link } from "./router.js";

export function QueueTable({ queues }) {
  if (queues === null) return html`<${Panel} title="Queues"><p class="dim">Not known while the store fails.</p><//>`;
  if (queues.length === 0) {
    return html`<${Panel} title="Queues"><${Empty} title="No queue is in use" command="dtask submit -- echo hello">
      A job stands in the queue <code>default</code> unless it names another.<//><//>`;
  }
  return html`
    <${Panel} title="Queues" flush>
      <div class="table-place">
        <table class="cards">
          <caption class="only-read">Queues with their depth, limits and oldest wait</caption>
          <thead>
            <tr>
              <th scope="col">Queue</th>
              <th scope="col" class="number">Queued</th>
              <th scope="col" class="number">Pending</th>
              <th scope="col" class="number">Running</th>
              <th scope="col" class="number">Weight</th>
              <th scope="col" class="number">Oldest wait</th>
            </tr>
          </thead>
          <tbody>${queues.map((queue) => html`<${Queue} key=${queue.name} queue=${queue} />`)}</tbody>
        </table>
      </div>
    <//>
  `;
}

function Queue({ queue }) {
  return html`
    <tr>
      <th scope="row"><span class="queue-name"><${Link} to="/jobs" query=${{ queue: queue.name }}>${queue.name}<//>
        ${queue.paused && html`<${StateBadge} state="paused" />`}</span></th>
      <td class="number" data-label="Queued"><${Limited} value=${queue.queued} limit=${queue.max_queued} /></td>
      <td class="number" data-label="Pending">${count(queue.pending)}</td>
      <td class="number" data-label="Running"><${Limited} value=${queue.running} limit=${queue.max_running} /></td>
      <td class="number" data-label="Weight">${queue.weight}</td>
      <td class="number" data-label="Oldest wait"><${Lasting} from=${queue.oldest_queued_at} /></td>
    </tr>
  `;
}

const Limited = ({ value, limit }) =>
  html`<span class=${limit !== null && value >= limit ? "at-limit" : ""}>${count(value)}${limit !== null && html`<span class="dim"> of ${count(limit)}</span>`}</span>`;
