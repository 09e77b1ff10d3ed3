// One job: how it stands and why, its tasks as a graph, in time and as lists, and what they wrote.
import { count } from "./formats.js";
import { html, useEffect, useMemo, useRef } from "./html.js";
import { Empty, ErrorNote, Lasting, Loading, Panel, StateBadge, Time } from "./parts.js";
import { Link, Page, setQuery } from "./router.js";
import { JobActions } from "./job/actions.js";
import { JobAttempts } from "./job/attempts.js";
import { Graph } from "./job/graph.js";
import { Progress } from "./job/progress_bar.js";
import { countsOf, isEnd } from "./job/progress.js";
import { TaskList } from "./job/task_list.js";
import { TaskPanel } from "./job/task_panel.js";
import { Timeline } from "./job/timeline.js";
import { Why } from "./job/why.js";
import { useFresh } from "./job/fresh.js";

export function Job({ params, query }) {
  const jobId = params.id;
  const isNumber = /^[1-9][0-9]{0,15}$/.test(jobId);
  const { data: job, error, reload } = useFresh(jobId, isNumber ? `jobs/${jobId}` : null);
  if (!isNumber) return html`<${Missing} jobId=${jobId} sentence="Jobs have numbers, such as 42." />`;
  if (error && !job) {
    if (error.code === "no_job") return html`<${Missing} jobId=${jobId} sentence=${error.sentence} />`;
    return html`<${Page} title=${`Job ${jobId}`}><${ErrorNote} error=${error} retry=${reload} /><//>`;
  }
  if (!job) return html`<${Page} title=${`Job ${jobId}`}><${Loading} what="Loading the job" lines=${8} /><//>`;
  return html`<${Whole} jobId=${jobId} job=${job} query=${query} reload=${reload} />`;
}

function Missing({ jobId, sentence }) {
  return html`
    <${Page} title=${`Job ${jobId}`} above=${html`<${Link} to="/jobs">Jobs<//>`}>
      <${Panel}><${Empty} title="There is no such job">${sentence} <${Link} to="/jobs">Look at all jobs<//>.<//><//>
    <//>
  `;
}

function Whole({ jobId, job, query, reload }) {
  const tasks = useMemo(() => Object.entries(job.tasks), [job]);
  const counts = useMemo(() => countsOf(Object.values(job.tasks)), [job]);
  const first = useRef(null);
  first.current ??= firstToShow(tasks); // it stays: what is looked at doesn't jump
  const chosen = chosenOf(query, job, first.current);
  const isLive = !isEnd(job.state);
  const place = useRef();
  useInSight(place, `${chosen.task} ${chosen.index} ${chosen.attempt}`);
  const link = (where) => ({ to: `/jobs/${jobId}`, query: { view: query.get("view"), ...where } });
  return html`
    <${Page} title=${job.name || `Job ${jobId}`} above=${html`<${Link} to="/jobs">Jobs<//> / ${jobId}`}
             lead=${html`<${Lead} job=${job} counts=${counts} />`}
             actions=${html`<${JobActions} jobId=${jobId} job=${job} counts=${counts} done=${reload} />`}>
      <div class="stack" ref=${place}>
        ${job.state !== "succeeded" && html`<${Reasons} jobId=${jobId} isLive=${isLive} task=${tasks.length > WHY_TASKS_MAX ? chosen.task : null} />`}
        <${Views} jobId=${jobId} tasks=${tasks} isLive=${isLive} view=${query.get("view")} chosen=${chosen} link=${link} />
        <${TaskPanel} key=${chosen.task} jobId=${jobId} task=${job.tasks[chosen.task]} chosen=${chosen} alone=${tasks.length === 1} done=${reload} link=${link} />
      </div>
    <//>
  `;
}

/** Scroll to the log of what was chosen in the graph or in a list, if nothing of it is in sight. */
function useInSight(place, chosen) {
  const clicked = useRef(false); // there, and not among the elements, which are beside their log
  useEffect(() => {
    const heed = (event) => {
      clicked.current = event.target.closest(".views") !== null;
    };
    place.current.addEventListener("click", heed, { capture: true });
    return () => place.current?.removeEventListener("click", heed, { capture: true });
  }, []);
  const last = useRef(chosen);
  useEffect(() => {
    if (last.current === chosen) return undefined;
    last.current = chosen;
    const run = place.current.querySelector(".run-place");
    const top = run?.getBoundingClientRect().top ?? 0;
    if (!clicked.current || top < innerHeight - SEEN_PX) return undefined;
    const observer = new ResizeObserver(() => run.scrollIntoView()); // again when its log is there
    observer.observe(run);
    const timer = setTimeout(() => observer.disconnect(), COMES_MS);
    return () => {
      clearTimeout(timer);
      observer.disconnect();
    };
  }, [chosen]);
}

/** So much of a log above the end of the window is enough to see it. */
const SEEN_PX = 160;
/** So long what was chosen may take to be there. */
const COMES_MS = 500;

/** Of a job of more tasks than this only those of the chosen one are asked for. */
const WHY_TASKS_MAX = 200;

function Reasons({ jobId, isLive, task }) {
  const whose = task ?? "it";
  return html`
    <${Panel} title=${isLive ? `Where ${whose} stands, and why` : `Why ${whose} ended so`} class="why"><${Why} jobId=${jobId} task=${task} /><//>`;
}

function Lead({ job, counts }) {
  return html`
    <div class="job-lead">
      <span class="job-state"><${StateBadge} state=${job.state} />${job.cancelled && !isEnd(job.state) && html`<span class="dim">being cancelled</span>`}</span>
      <${Progress} counts=${counts} />
      <span><span class="dim">Queue</span> <${Link} to="/jobs" query=${{ queue: job.queue }}>${job.queue}<//></span>
      ${job.priority !== 0 && html`<span><span class="dim">Priority</span> ${job.priority}</span>`}
      <span><span class="dim">Submitted</span> <${Time} at=${job.submitted_at} /></span>
      <span><span class="dim">${isEnd(job.state) ? "Took" : "For"}</span> <${Lasting} from=${job.submitted_at} to=${job.ended_at ?? null} /></span>
      ${job.key && html`<span class="job-key"><span class="dim">Key</span> <code class="cut" title=${job.key}>${job.key}</code></span>`}
    </div>
  `;
}

/** Graph, list, timeline or attempts; of a job of one task only what has something to say. */
function Views({ jobId, tasks, isLive, view, chosen, link }) {
  const several = tasks.length > 1;
  const views = [...(several ? [["graph", "Graph"], ["tasks", "Tasks"]] : []), ["timeline", "Timeline"], ["attempts", "Attempts"]];
  const [shown] = views.find(([name]) => name === view) ?? views[0];
  const select = ({ task, index = null, number = null }) => setQuery({ task, index, attempt: number, stream: null });
  const tabs = html`
    <div class="switch" role="group" aria-label="What is shown">
      ${views.map(([name, word]) => html`<button type="button" key=${name} aria-pressed=${name === shown} onClick=${() => setQuery({ view: name })}>${word}</button>`)}
    </div>`;
  const title = { graph: "Graph", tasks: "Tasks", timeline: "Timeline", attempts: "Attempts" }[shown];
  const isTable = shown === "tasks" || shown === "attempts";
  return html`
    <${Panel} title=${title} flush=${isTable} class=${`views ${shown}`} aside=${html`<span class="button-row">${several && html`<span class="dim">${count(tasks.length)} tasks</span>`}${tabs}</span>`}>
      ${shown === "graph" && html`<${Graph} tasks=${tasks} selected=${chosen.task} select=${(task) => select({ task })} />`}
      ${shown === "tasks" && html`<${TaskList} tasks=${tasks} selected=${chosen.task} link=${(task) => link({ task })} />`}
      ${shown === "timeline" && html`<${Timeline} jobId=${jobId} names=${tasks.map(([name]) => name)} live=${isLive} select=${select} selected=${chosen} />`}
      ${shown === "attempts" && html`<${JobAttempts} jobId=${jobId} selected=${chosen} link=${({ task, index, number }) => link({ task, index, attempt: number })} />`}
    <//>
  `;
}

/** What the address chooses, or the task `first`. */
function chosenOf(query, job, first) {
  const named = query.get("task");
  const task = named !== null && Object.hasOwn(job.tasks, named) ? named : first;
  const number = (name) => (/^\d{1,9}$/.test(query.get(name) ?? "") ? Number(query.get(name)) : null);
  const isArray = Boolean(job.tasks[task].counts);
  return {
    task,
    index: isArray ? number("index") : null,
    attempt: number("attempt"),
    stream: ["stdout", "stderr"].find((stream) => stream === query.get("stream")) ?? null,
  };
}

/** The first task that failed, or runs, or is there. */
function firstToShow(tasks) {
  if (tasks.length === 1) return tasks[0][0];
  const of = (state) => tasks.find(([, task]) => task.state === state);
  return (of("failed") ?? of("running") ?? tasks[0])[0];
}

