// One worker: what it runs, how loaded it was, and an operator's word whether it takes more.
import { post, useResource } from "./api.js";
import { Chart } from "./chart.js";
import { Heartbeat } from "./fleet.js";
import { measure, percent, plural } from "./formats.js";
import { html, useEffect, useMemo, useState } from "./html.js";
import { useSelected } from "./live.js";
import { Age, Confirm, Empty, ErrorNote, Lasting, LoadBar, Loading, Panel, StateBadge } from "./parts.js";
import { Link, Page, pathOf } from "./router.js";

/** Its tasks are asked for so often at most while they change, ... */
const SETTLE_MS = 1_000;
/** ... and its load over time so often in any case. */
const REFRESH_MS = 10_000;

export function Worker({ params }) {
  const { id } = params;
  const row = useSelected((live) => live.workers.get(id));
  const { data, error, loading, reload } = useResource(pathOf("workers", id));
  useEffect(() => {
    const timer = setTimeout(reload, SETTLE_MS);
    return () => clearTimeout(timer);
  }, [row]);
  useEffect(() => {
    const timer = setInterval(reload, REFRESH_MS);
    return () => clearInterval(timer);
  }, [reload]);

  const above = html`<${Link} to="/workers">Workers<//>`;
  if (error?.code === "unknown_worker") {
    return html`<${Page} title=${id} above=${above}><${Panel}>
      <${Empty} title="This worker is not known" command="dtask workers">${error.sentence}<//><//><//>`;
  }
  if (data === null) {
    return html`<${Page} title=${id} above=${above}><${Panel}>
      ${loading ? html`<${Loading} lines=${6} what="Loading the worker" />` : html`<${ErrorNote} error=${error} retry=${reload} />`}<//><//>`;
  }
  // The stream is ahead of what was asked for.
  const now = row
    ? [...row.slice(0, 5), Math.max(row[5], data.last_heartbeat)]
    : [id, data.status, data.draining, data.current_tasks, data.max_tasks, data.last_heartbeat];
  return html`
    <${Page} title=${id} above=${above} lead=${html`<${Standing} row=${now} />`}
      actions=${html`<${Drain} id=${id} draining=${now[2]} reload=${reload} />`}>
      ${error && html`<${ErrorNote} error=${error} retry=${reload} />`}
      <div class="grid">
        <div class="span-8 stack start">
          <${LoadChart} history=${data.history} />
          <${Tasks} tasks=${data.tasks} />
        </div>
        <div class="span-4 stack start"><${Facts} worker=${data} row=${now} /></div>
      </div>
    <//>
  `;
}

const Standing = ({ row }) => html`
  <span class="lead-items">
    <${StateBadge} state=${row[1]} />
    ${row[2] && html`<${StateBadge} state="draining" />`}
    <span>heartbeat <${Heartbeat} status=${row[1]} at=${row[5]} /></span>
  </span>
`;

function Drain({ id, draining, reload }) {
  const [asked, setAsked] = useState(false);
  const word = draining ? "Undrain" : "Drain";
  const act = async () => {
    await post(`${pathOf("workers", id)}/${word.toLowerCase()}`);
    await reload();
  };
  return html`
    <button type="button" class="button" onClick=${() => setAsked(true)}>${word}</button>
    ${asked && html`
      <${Confirm} title="${word} ${id}?" action=${word} act=${act} close=${() => setAsked(false)}>
        ${draining
          ? "It takes new tasks again. If it drains by its own word, because it is being stopped, it goes on doing so."
          : "It gets no new tasks, and those that it holds go on to their end. It stays drained until somebody undrains it."}
      <//>`}
  `;
}

function LoadChart({ history }) {
  const times = useMemo(() => {
    const first = history.ends_at - (history.load.length - 1) * history.every_s;
    return history.load.map((_, index) => first + index * history.every_s);
  }, [history]);
  return html`<${Chart} title="Load" times=${times} top=${1} format=${percent}
    lines=${[{ name: "of its slots taken", values: history.load, colour: "--accent", fill: true }]} />`;
}

function Tasks({ tasks }) {
  return html`
    <${Panel} title="Tasks" aside=${plural(tasks.length, "task")} flush=${tasks.length > 0}>
      ${tasks.length === 0
        ? html`<${Empty} title="It runs nothing">Tasks that it holds stand here, those of jobs and those placed by clients of their own.<//>`
        : html`
          <div class="table-place">
            <table class="cards tasks">
              <caption class="only-read">Tasks that the worker holds</caption>
              <thead><tr><th scope="col">Task</th><th scope="col">Held for</th><th scope="col" class="number wide-only">Fence</th></tr></thead>
              <tbody>${tasks.map((task) => html`<${Task} key=${`${task.task_id} ${task.fence}`} task=${task} />`)}</tbody>
            </table>
          </div>`}
    <//>
  `;
}

function Task({ task }) {
  const name = task.job_id === undefined ? task.task_id : nameOf(task);
  return html`
    <tr>
      <th scope="row" class="break">
        ${task.job_id === undefined
          ? html`${name} <span class="dim">placed by a client</span>`
          : html`<${Link} to=${pathOf("jobs", task.job_id)} query=${{ task: task.task, index: task.index, attempt: task.number }}>${name}<//>`}
      </th>
      <td data-label="Held for"><${Lasting} from=${task.since} /></td>
      <td data-label="Fence" class="number dim wide-only">${task.fence}</td>
    </tr>
  `;
}

/** 42/tile[7]#2 */
function nameOf({ job_id, task, index, number }) {
  const element = index === undefined || index === null ? "" : `[${index}]`;
  return `${job_id}/${task}${element}${number === undefined ? "" : `#${number}`}`;
}

function Facts({ worker, row }) {
  const metrics = Object.entries(worker.metrics);
  return html`
    <${Panel} title="Worker">
      <dl class="facts">
        <dt>Slots taken</dt><dd><${LoadBar} used=${row[3]} total=${row[4]} /></dd>
        <dt>It counts</dt><dd>${worker.reported_tasks ?? "nothing"}</dd>
        <dt>Address</dt><dd class="mono">${worker.address}</dd>
        <dt>Tags</dt><dd><span class="tags">${worker.resource_tags.length === 0 ? html`<span class="none">none</span>`
          : worker.resource_tags.map((tag) => html`<span key=${tag} class="tag" title=${tag}>${tag}</span>`)}</span></dd>
        <dt>Trusted</dt><dd>${worker.trusted ? "yes" : "no, it heartbeats without the token: jobs don't use it"}</dd>
        <dt>Life</dt><dd class="mono">${worker.incarnation ?? "–"}</dd>
      </dl>
    <//>
    ${metrics.length > 0 && html`
      <${Panel} title="Its own figures">
        <dl class="facts">${metrics.map(([name, value]) => html`<dt key=${name}>${name}</dt><dd>${typeof value === "number" ? measure(value) : String(value)}</dd>`)}</dl>
      <//>`}
  `;
}
