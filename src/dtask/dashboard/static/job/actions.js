// What can be done to a job or a task: stop it, or start over what did not succeed.
import { del, post } from "../api.js";
import { plural } from "../formats.js";
import { html, useState } from "../html.js";
import { Confirm } from "../parts.js";
import { isEnd } from "./progress.js";

/** `counts` are the elements of the job by state; `done()` is called after something was done. */
export function JobActions({ jobId, job, counts, done }) {
  const failed = counts.failed ?? 0;
  const unsuccessful = failed + (counts.cancelled ?? 0) + (counts.skipped ?? 0);
  const ended = isEnd(job.state);
  return html`
    <${Action} label="Cancel" title=${`Cancel job ${jobId}?`} danger done=${done}
               barred=${ended ? "It has ended" : job.cancelled ? "It is being cancelled" : null} act=${() => del(`jobs/${jobId}`)}>
      What waits is cancelled at once; what runs is stopped. What has succeeded stays. It can be started over with a retry.
    <//>
    <${Action} label="Retry failed" title=${`Retry what failed of job ${jobId}?`} done=${done}
               barred=${failed === 0 ? "Nothing of it has failed" : null} act=${() => post(`jobs/${jobId}/retry`, { again: "failed" })}>
      ${plural(failed, "task or element", "tasks and elements")} failed. What failed starts over with all its retries, and so does what
      was skipped because of it.
    <//>
    <${Action} label="Retry all" title=${`Retry all of job ${jobId} that did not succeed?`} done=${done}
               barred=${unsuccessful === 0 ? "All that has ended has succeeded" : null} act=${() => post(`jobs/${jobId}/retry`, {})}>
      ${plural(unsuccessful, "task or element", "tasks and elements")} did not succeed: failed, cancelled or skipped. All of that starts
      over, with all its retries; what succeeded stays.
    <//>
  `;
}

/** The same for one task of a job that has several. */
export function TaskActions({ jobId, name, task, done }) {
  const path = `jobs/${jobId}/tasks/${encodeURIComponent(name)}`;
  const counts = task.counts ?? { [task.state]: 1 };
  const unsuccessful = (counts.failed ?? 0) + (counts.cancelled ?? 0) + (counts.skipped ?? 0);
  return html`
    <${Action} label="Cancel task" title=${`Cancel ${jobId}/${name}?`} danger small done=${done} barred=${isEnd(task.state) ? "It has ended" : null} act=${() => del(path)}>
      What runs of it is stopped, and what needs it is skipped. The other tasks of the job go on.
    <//>
    <${Action} label="Retry task" title=${`Retry ${jobId}/${name}?`} small done=${done}
               barred=${unsuccessful === 0 ? "All of it that has ended has succeeded" : null} act=${() => post(`jobs/${jobId}/retry`, { task: name })}>
      What did not succeed of it starts over, and so do the tasks that need it.
    <//>
  `;
}

/** A button that asks first. `barred` says why it can't be done now, or is null. */
function Action({ label, title, danger, small, barred, act, done, children }) {
  const [asked, setAsked] = useState(false);
  const go = async () => {
    await act();
    done();
  };
  return html`
    <button type="button" class="button ${small ? "small" : ""} ${danger && !barred ? "danger" : ""}" disabled=${barred !== null} title=${barred ?? undefined}
            onClick=${() => setAsked(true)}>${label}</button>
    ${asked && html`
      <${Confirm} title=${title} action=${danger ? `${label} it`.replace("task it", "it") : label} danger=${danger} act=${go} close=${() => setAsked(false)}>
        ${children}
      <//>`}
  `;
}
