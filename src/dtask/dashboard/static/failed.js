// What failed and waits for somebody: the failures of failed jobs, those alike as one.
import { useResource } from "./api.js";
import { count, plural } from "./formats.js";
import { html, useState } from "./html.js";
import { useJobsChanged, useSelected } from "./live.js";
import { Age, Choice, Empty, ErrorNote, Loading, Panel, StateShape } from "./parts.js";
import { Link, Page, setQuery } from "./router.js";
import { causeText } from "./job/cause.js";
import { usePaced } from "./job/fresh.js";
import { RetryMany } from "./failed/retry_many.js";

const GROUPS = 100;
/** Between two looks: whatever moves in the cluster may be a failure. */
const PAUSE_MS = 1_500;
/** Numbers of jobs that are shown of a group before somebody asks for all. */
const NUMBERS_SHOWN = 12;

export function Failed({ query }) {
  const queue = query.get("queue") ?? "";
  const { data, error, reload } = useResource("failures", { queue, limit: GROUPS });
  const paced = usePaced(reload, PAUSE_MS);
  useJobsChanged(paced);
  const jobs = data ? new Set(data.groups.flatMap((group) => group.jobs)) : new Set();
  return html`
    <${Page} title="Failed" lead="Jobs that failed and were not retried, by what went wrong."
             actions=${jobs.size > 0 && html`<${RetryMany} jobs=${[...jobs]} label="Retry all" what=${plural(jobs.size, "failed job")} done=${reload} />`}>
      <div class="stack">
        <${Filter} queue=${queue} />
        ${error && html`<${ErrorNote} error=${error} retry=${reload} />`}
        ${!error && !data && html`<${Panel}><${Loading} what="Loading the failures" lines=${6} /><//>`}
        ${data && (data.groups.length > 0 ? html`<${Groups} data=${data} done=${reload} />` : html`<${Nothing} queue=${queue} />`)}
      </div>
    <//>
  `;
}

function Filter({ queue }) {
  const queues = useSelected((live) => live.totals?.queues) ?? [];
  const names = [...new Set([...queues.map(({ name }) => name), ...(queue ? [queue] : [])])];
  if (names.length < 2) return null;
  const options = [["", "Any queue"], ...names.map((name) => [name, name])];
  return html`<div class="filters"><${Choice} label="Queue" value=${queue} options=${options} change=${(value) => setQuery({ queue: value })} /></div>`;
}

function Groups({ data, done }) {
  return html`
    <ul class="stack">
      ${data.groups.map((group) => html`<li key=${keyOf(group)}><${Group} group=${group} done=${done} /></li>`)}
    </ul>
    ${!data.complete && html`<p class="dim">These are the newest. Older failures show when these are retried, or in <${Link} to="/jobs" query=${{ state: "failed" }}>the list of failed jobs<//>.</p>`}
  `;
}

const keyOf = ({ job_name: name, task, cause, exit_code: code, error }) => JSON.stringify([name, task, cause, code, error]);

function Group({ group, done }) {
  const { jobs, task, error } = group;
  const name = group.job_name || "no name";
  return html`
    <section class="panel failure" aria-label=${`${name}/${task}: ${causeText(group)}`}>
      <div class="failure-head">
        <${StateShape} state="failed" />
        <div class="failure-what">
          <h2 class="break">${name}<span class="dim"> / </span>${task}</h2>
          <p><span class="tone-bad">${causeText(group)}</span> <span class="dim">${plural(group.count, "time")} in ${plural(jobs.length, "job")}${jobs.length >= 100 ? " or more" : ""}, the last <${Age} at=${group.last_at} /></span></p>
        </div>
        <${RetryMany} jobs=${jobs} label=${jobs.length === 1 ? "Retry" : `Retry ${count(jobs.length)}`} what=${plural(jobs.length, "job")} small done=${done} />
      </div>
      ${error && html`<pre class="failure-error">${error}</pre>`}
      <${Numbers} jobs=${jobs} task=${task} />
    </section>
  `;
}

function Numbers({ jobs, task }) {
  const [all, setAll] = useState(false);
  const shown = all ? jobs : jobs.slice(0, NUMBERS_SHOWN);
  return html`
    <p class="failure-jobs">
      <span class="dim">${jobs.length === 1 ? "Job" : "Jobs"}</span>
      ${shown.map((id) => html`<${Link} key=${id} to=${`/jobs/${id}`} query=${{ task }} class="number">${id}<//>`)}
      ${jobs.length > shown.length && html`<button type="button" class="link" onClick=${() => setAll(true)}>${count(jobs.length - shown.length)} more</button>`}
    </p>
  `;
}

function Nothing({ queue }) {
  if (queue) return html`<${Panel}><${Empty} title=${`No failed jobs in the queue ${queue}`}><button type="button" class="link" onClick=${() => setQuery({ queue: null })}>Look in all queues</button><//><//>`;
  return html`
    <${Panel}><${Empty} title="No failed jobs" command="dtask submit --retries 3 -- make">
      A job that fails stays here, with its cause, until somebody retries it. Retries of its own keep it away from here:
    <//><//>`;
}
