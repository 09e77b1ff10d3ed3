// One task of a job: of an array its elements, of a run its log and its facts.
import { get } from "../api.js";
import { html, useEffect, useState } from "../html.js";
import { Choice, Empty, ErrorNote, Loading, Panel, StateBadge } from "../parts.js";
import { setQuery } from "../router.js";
import { ArrayGrid } from "./array_grid.js";
import { Attempts } from "./attempts.js";
import { CauseText, shownState } from "./cause.js";
import { Definition } from "./definition.js";
import { Elements } from "./elements.js";
import { LogViewer } from "./log_viewer.js";
import { RunFacts } from "./run_facts.js";
import { TaskActions } from "./actions.js";
import { Why } from "./why.js";
import { pathOf } from "./log_reader.js";
import { isEnd } from "./progress.js";
import { useFresh } from "./fresh.js";

/** `chosen` is `{task, index, attempt, stream}` of the address; `alone`: the job has no other task. */
export function TaskPanel({ jobId, task, chosen, alone, done, link }) {
  const { index } = chosen;
  const select = (wanted) => setQuery({ task: chosen.task, index: wanted, attempt: null });
  const needsElement = task.counts && index === null;
  const title = `Log of ${chosen.task}${index !== null ? `[${index}]` : ""}`;
  return html`
    ${task.counts && html`
      <${Panel} title=${alone ? "Elements" : `Elements of ${chosen.task}`} class="elements"
                aside=${!alone && html`<span class="button-row"><${TaskActions} jobId=${jobId} name=${chosen.task} task=${task} done=${done} /></span>`}>
        <${ArrayGrid} jobId=${jobId} name=${chosen.task} task=${task} selected=${index} select=${select} />
        <details class="more"><summary>As a list</summary>
          <${Elements} jobId=${jobId} name=${chosen.task} counts=${task.counts} link=${(each) => link({ task: chosen.task, index: each })} selected=${index} />
        </details>
      <//>`}
    ${needsElement
      ? html`<${Panel} title="Definition"><${Definition} jobId=${jobId} name=${chosen.task} /><//>`
      : html`<div class="run-place"><${Runs} key=${`${chosen.task} ${index}`} jobId=${jobId} task=${task} chosen=${chosen} title=${title} alone=${alone} done=${done} link=${link} /></div>`}
  `;
}

/** The attempts of a plain task or an element, and the log of one. */
function Runs({ jobId, task, chosen, title, alone, done, link }) {
  const place = { jobId, task: chosen.task, index: chosen.index };
  const { data, error, reload } = useFresh(jobId, pathOf(place, "attempts"), { index: chosen.index, limit: 1_000 });
  const element = useElement(place, task, data);
  if (error && !data) return html`<${Panel} title=${title}><${ErrorNote} error=${error} retry=${reload} /><//>`;
  if (!data) return html`<${Panel} title=${title}><${Loading} what="Loading the attempts" /><//>`;
  const row = data.find(({ number }) => number === chosen.attempt) ?? data[0];
  const of = { ...place, attempt: row?.number };
  const state = element?.state ?? task.state;
  const aside = html`
    <span class="button-row">
      ${data.length > 1 && html`<${AttemptChoice} rows=${data} number=${row.number} />`}
      <span class="state-cell"><${StateBadge} state=${state} /><${CauseText} row=${element ?? task} /></span>
      ${!alone && !task.counts && html`<${TaskActions} jobId=${jobId} name=${chosen.task} task=${task} done=${done} />`}
    </span>`;
  return html`
    <div class="run">
      <${Panel} title=${title} aside=${aside} class="run-log">
        ${row ? html`<${LogViewer} key=${row.number} place=${of} row=${row} stream=${chosen.stream ?? streamOf(row)} choose=${(stream) => setQuery({ stream })} />`
              : html`<${NotYet} jobId=${jobId} place=${place} state=${state} />`}
      <//>
      <div class="run-side">
        ${row && html`<${Panel} title=${`Attempt ${row.number}`}><${RunFacts} place=${of} row=${row} /><//>`}
        <${Panel} title="Definition"><${Definition} jobId=${jobId} name=${chosen.task} index=${chosen.index} /><//>
      </div>
      ${data.length > 1 && (!alone || task.counts) && html`
        <${Panel} title="Attempts" flush class="run-attempts">
          <${Attempts} rows=${data} selected=${of} link=${(each) => link({ ...chosen, attempt: each.number })} />
        <//>`}
    </div>
  `;
}

/** The one that was written to, if it was only one. */
function streamOf({ stdout_bytes: out = 0, stderr_bytes: err = 0 }) {
  return out === 0 && err > 0 ? "stderr" : "stdout";
}

function AttemptChoice({ rows, number }) {
  const options = rows.map((row, at) => [row.number, `#${row.number} ${shownState(row)}${at === 0 ? " (last)" : ""}`]);
  return html`<${Choice} label="Attempt" value=${number} options=${options} change=${(wanted) => setQuery({ attempt: Number(wanted) === rows[0].number ? null : wanted })} />`;
}

function NotYet({ jobId, place, state }) {
  if (isEnd(state)) return html`<${Empty} title="It was never run, and wrote nothing." ><${Why} jobId=${jobId} task=${place.task} index=${place.index} /><//>`;
  return html`<${Empty} title="It has not been run yet: there is no log."><${Why} jobId=${jobId} task=${place.task} index=${place.index} /><//>`;
}

/** How an element stands; null of a plain task, and until it is known. Asked again with its attempts. */
function useElement(place, task, attempts) {
  const [row, setRow] = useState(null);
  useEffect(() => {
    if (!task.counts) return undefined;
    const controller = new AbortController();
    get(pathOf(place, "elements"), { after: place.index - 1 >= 0 ? place.index - 1 : null, limit: 1 }, { signal: controller.signal })
      .then(({ elements }) => setRow(elements[0]?.index === place.index ? elements[0] : null), () => {});
    return () => controller.abort();
  }, [attempts]);
  return row;
}
