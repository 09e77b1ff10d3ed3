// Retries many jobs, one after the other, and says how far it is and what was refused.
import { post } from "../api.js";
import { count, plural } from "../formats.js";
import { html, useEffect, useId, useRef, useState } from "../html.js";
import { Link } from "../router.js";

/** Errors that are shown; the rest is counted. */
const ERRORS_SHOWN = 5;

/** A button that asks first. `what` are the jobs in words; `done()` is called when all were tried. */
export function RetryMany({ jobs, label, what, small, done }) {
  const [asked, setAsked] = useState(null); // the jobs as they were when it was asked
  return html`
    <button type="button" class="button ${small ? "small" : "primary"}" onClick=${() => setAsked(jobs)}>${label}</button>
    ${asked && html`<${Dialog} jobs=${asked} what=${what} close=${() => { setAsked(null); done(); }} />`}
  `;
}

function Dialog({ jobs, what, close }) {
  const dialog = useRef();
  const titleId = useId();
  const stopped = useRef(false);
  const [run, setRun] = useState(null); // {tried, errors: [{id, error}]}

  useEffect(() => {
    dialog.current.showModal();
    return () => {
      stopped.current = true;
    };
  }, []);

  async function go() {
    const errors = [];
    setRun({ tried: 0, errors });
    for (const [at, id] of jobs.entries()) {
      if (stopped.current) return;
      try {
        await post(`jobs/${id}/retry`, { again: "failed" });
      } catch (error) {
        errors.push({ id, error });
        if (error.status === 0 || error.status === 401) { // nobody would answer the others either
          setRun({ tried: at + 1, errors, gaveUp: true });
          return;
        }
      }
      setRun({ tried: at + 1, errors });
    }
    if (errors.length === 0) dialog.current?.close();
  }

  const working = run !== null && run.tried < jobs.length && !run.gaveUp;
  const over = run !== null && !working;
  return html`
    <dialog class="confirm" ref=${dialog} aria-labelledby=${titleId} onClose=${close}>
      <h2 id=${titleId}>Retry ${what}?</h2>
      <div class="confirm-body">
        ${run === null
          ? html`What failed starts over with all its retries, and so does what was skipped because of it.`
          : html`<p role="status">${count(run.tried - run.errors.length)} of ${plural(jobs.length, "job")} started over${run.errors.length ? `, ${count(run.errors.length)} refused` : ""}.</p>
                 <progress max=${jobs.length} value=${run.tried} aria-label="Jobs tried"></progress>`}
      </div>
      ${run?.errors.length > 0 && html`<${Errors} errors=${run.errors} />`}
      <div class="confirm-actions">
        <button type="button" class="button" onClick=${() => dialog.current.close()}>${over ? "Close" : working ? "Stop" : "Keep as it is"}</button>
        ${!over && html`<button type="button" class="button primary" disabled=${working} onClick=${go}>${working ? "Working…" : `Retry ${what}`}</button>`}
      </div>
    </dialog>
  `;
}

function Errors({ errors }) {
  const more = errors.length - ERRORS_SHOWN;
  return html`
    <div class="error-note" role="alert"><ul>
      ${errors.slice(0, ERRORS_SHOWN).map(({ id, error }) => html`<li key=${id}><${Link} to=${`/jobs/${id}`}>Job ${id}<//>: ${error.sentence}</li>`)}
      ${more > 0 && html`<li>and ${count(more)} more</li>`}
    </ul></div>
  `;
}
