// All jobs, the newest first: filtered, searched, page by page, and live as far as they are shown.
import { useResource } from "./api.js";
import { count } from "./formats.js";
import { html, useRef } from "./html.js";
import { useJobsChanged, useSelected } from "./live.js";
import { Age, Choice, Empty, ErrorNote, Lasting, Loading, Pager, Panel, StateBadge, Typed } from "./parts.js";
import { Link, Page, setQuery } from "./router.js";
import { usePaced } from "./job/fresh.js";
import { isEnd } from "./job/progress.js";
import { TaskProgress } from "./job/progress_bar.js";

const ROWS = 50;

const STATES = [
  ["", "Any state"],
  ["live", "Not ended"],
  ["pending", "Pending"],
  ["queued", "Queued"],
  ["running", "Running"],
  ["succeeded", "Succeeded"],
  ["failed", "Failed"],
  ["cancelled", "Cancelled"],
  ["skipped", "Skipped"],
];
const LIVE = ["pending", "queued", "scheduled", "running"];

export function Jobs({ query }) {
  const [state, queue, search, before] = ["state", "queue", "search", "before"].map((name) => query.get(name) ?? "");
  const asked = { state: statesOf(state), queue, search, before, limit: ROWS };
  const { data, error, reload } = useResource("jobs", asked);
  useFreshRows(data, before === "", reload);
  const trail = useTrail(`${state} ${queue} ${search}`, before);
  const isFiltered = Boolean(state || queue || search);
  return html`
    <${Page} title="Jobs" actions=${html`<${Link} to="/submit" class="button primary">Submit a job<//>`}>
      <div class="stack">
        <${Filters} state=${state} queue=${queue} search=${search} />
        ${error && html`<${ErrorNote} error=${error} retry=${reload} />`}
        ${!error && !data && html`<${Panel}><${Loading} what="Loading the jobs" lines=${8} /><//>`}
        ${data && html`
          <${Panel} flush>
            ${data.length > 0 ? html`<${Table} rows=${data} />` : html`<${Nothing} isFiltered=${isFiltered} isLater=${before !== ""} search=${search} />`}
            <${Pages} rows=${data} before=${before} trail=${trail} />
          <//>`}
      </div>
    <//>
  `;
}

function statesOf(state) {
  if (state === "live") return LIVE;
  return state === "running" ? ["scheduled", "running"] : state;
}

/** Ask again when a job that is shown changed, or when another may belong here. */
function useFreshRows(rows, isNewest, reload) {
  const paced = usePaced(reload);
  useJobsChanged(({ ids, all }) => {
    if (all || isNewest || rows?.some((row) => ids.has(row.job_id))) paced();
  });
}

function Filters({ state, queue, search }) {
  const queues = useSelected((live) => live.totals?.queues) ?? [];
  const names = [...new Set([...queues.map(({ name }) => name), ...(queue ? [queue] : [])])];
  const change = (changes) => setQuery({ ...changes, before: null });
  return html`
    <div class="filters" role="search" aria-label="Jobs">
      <${Typed} label="Name or number" value=${search} placeholder="render, 42" change=${(text) => change({ search: text.trim() })} wide />
      <${Choice} label="State" value=${state} options=${STATES} change=${(value) => change({ state: value })} />
      <${Choice} label="Queue" value=${queue} options=${[["", "Any queue"], ...names.map((name) => [name, name])]} change=${(value) => change({ queue: value })} />
    </div>
  `;
}

function Table({ rows }) {
  return html`
    <div class="table-place">
      <table class="cards jobs">
        <thead><tr>
          <th scope="col">Job</th><th scope="col">State</th><th scope="col">Tasks ended</th><th scope="col">Queue</th>
          <th scope="col" class="number">Priority</th><th scope="col" class="number">Submitted</th><th scope="col" class="number">Took</th>
        </tr></thead>
        <tbody>${rows.map((row) => html`<${Row} key=${row.job_id} row=${row} />`)}</tbody>
      </table>
    </div>
  `;
}

function Row({ row }) {
  return html`
    <tr>
      <th scope="row"><${Link} to=${`/jobs/${row.job_id}`} class="job-link"><span class="job-number">${row.job_id}</span><span class="break">${row.name || html`<span class="dim">no name</span>`}</span><//></th>
      <td data-label="State"><span class="state-cell"><${StateBadge} state=${row.state} />${row.cancelled && !isEnd(row.state) && html`<span class="dim">being cancelled</span>`}</span></td>
      <td data-label="Tasks ended"><${TaskProgress} tasks=${row.tasks} /></td>
      <td data-label="Queue">${row.queue}</td>
      <td data-label="Priority" class="number">${row.priority === 0 ? html`<span class="none">0</span>` : row.priority}</td>
      <td data-label="Submitted" class="number"><${Age} at=${row.submitted_at} /></td>
      <td data-label="Took" class="number"><${Lasting} from=${row.submitted_at} to=${row.ended_at ?? null} /></td>
    </tr>
  `;
}

function Nothing({ isFiltered, isLater, search }) {
  if (isLater) return html`<${Empty} title="No older jobs">These were all.<//>`;
  if (!isFiltered) {
    return html`<${Empty} title="No jobs yet" command="dtask submit -- echo hello">A job is a command, an array or a graph of them. Hand one in here with “Submit a job”, or in a terminal:<//>`;
  }
  return html`
    <${Empty} title="No job is like that">
      ${search && "The search looks for a part of the name, or for a whole number. "}
      <button type="button" class="link" onClick=${() => setQuery({ state: null, queue: null, search: null, before: null })}>Show all jobs</button>
    <//>`;
}

/** The pages that came before this one, as long as the filters stay the same: what was looked at, whichever button led there. */
function useTrail(filters, before) {
  const trail = useRef({ filters, before, pages: [] });
  const last = trail.current;
  if (last.filters !== filters) {
    trail.current = { filters, before, pages: [] };
  } else if (last.before !== before) {
    const at = last.pages.indexOf(before);
    trail.current = { filters, before, pages: at < 0 ? [...last.pages, last.before] : last.pages.slice(0, at) };
  }
  return trail.current.pages;
}

/** Older and newer pages. */
function Pages({ rows, before, trail }) {
  const hasOlder = rows.length === ROWS;
  if (!hasOlder && before === "") return null;
  const go = (to) => {
    setQuery({ before: to }, { replace: false });
    scrollTo(0, 0);
  };
  const older = () => go(rows.at(-1).job_id);
  const newer = () => go(trail.at(-1) ?? null);
  const label = rows.length === 0 ? "" : `Jobs ${count(rows[0].job_id)} to ${count(rows.at(-1).job_id)}`;
  return html`<${Pager} label=${label} previous=${before === "" ? null : newer} next=${hasOlder ? older : null} />`;
}
