// Why a job stands where it does, in the words of the API.
import { count } from "../formats.js";
import { html, useEffect, useState } from "../html.js";
import { ErrorNote, Loading, StateShape } from "../parts.js";
import { useFresh } from "./fresh.js";

/** Reasons that are shown before somebody asks for all. */
const SHOWN = 5;
const SHOWN_MAX = 200;
const NAMES_SHOWN = 3;
/** What waits is asked about this often, though its job does not change. */
const WAITING_MS = 3_000;

/** `task` and `index` narrow it to one; both may be null. */
export function Why({ jobId, task = null, index = null }) {
  const { data, error, reload } = useFresh(jobId, `jobs/${jobId}/why`, { task, index });
  const [all, setAll] = useState(false);
  const waits = data?.reasons.some(({ state }) => state === "queued" || state === "pending") ?? false;
  useEffect(() => {
    if (!waits) return undefined;
    const timer = setInterval(reload, WAITING_MS); // it may wait for what workers and queues do
    return () => clearInterval(timer);
  }, [waits, reload]);
  if (error && !data) return html`<${ErrorNote} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} lines=${2} what="Asking why" />`;
  const groups = grouped(data.reasons);
  if (groups.length === 0) return html`<p class="dim">Nothing keeps it: all that was to run has succeeded.</p>`;
  const shown = groups.slice(0, all ? SHOWN_MAX : SHOWN);
  return html`
    <ul class="reasons">
      ${shown.map((group) => html`
        <li key=${`${group.state} ${group.sentence}`}>
          <${StateShape} state=${group.state} />
          <div><span class="break">${group.sentence}</span> <span class="dim break">${namesOf(group)}</span></div>
        </li>`)}
    </ul>
    ${groups.length > SHOWN && html`
      <button type="button" class="link" onClick=${() => setAll(!all)}>${all ? "Show fewer" : `Show all ${count(groups.length)} reasons`}</button>`}
  `;
}

/** Reasons that say the same are one, with all the names. */
function grouped(reasons) {
  const groups = new Map();
  for (const { name, state, sentence, count: elements } of reasons) {
    const key = `${state} ${sentence}`;
    const group = groups.get(key) ?? { state, sentence, names: [], elements: 0 };
    group.names.push(name);
    group.elements += elements;
    groups.set(key, group);
  }
  return [...groups.values()];
}

function namesOf({ names, elements }) {
  const more = names.length - NAMES_SHOWN;
  const shown = names.slice(0, NAMES_SHOWN).join(", ") + (more > 0 ? ` and ${count(more)} more` : "");
  return elements > names.length ? `${shown}, ${count(elements)} elements` : shown;
}
