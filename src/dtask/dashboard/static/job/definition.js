// A task as it was submitted.
import { useResource } from "../api.js";
import { count, duration } from "../formats.js";
import { html } from "../html.js";
import { ErrorNote, Loading } from "../parts.js";
import { lineOf } from "../submit/words.js";
import { pathOf } from "./log_reader.js";

const ITEMS_SHOWN = 20;
const VARIABLES_SHOWN = 40;

/** Asked for once: a submit never changes. `index` is that of an element, or null. */
export function Definition({ jobId, name, index = null }) {
  const { data, error, reload } = useResource(`jobs/${jobId}/tasks/${encodeURIComponent(name)}`);
  if (error) return html`<${ErrorNote} error=${error} retry=${reload} />`;
  if (!data) return html`<${Loading} what="Loading the definition" />`;
  const { spec } = data;
  return html`
    <pre class="command-line">${lineOf(spec.command)}</pre>
    <dl class="facts">${factsOf(spec, index).map(([label, value]) => html`<dt key=${label}>${label}</dt><dd>${value}</dd>`)}</dl>
  `;
}

function factsOf(spec, index) {
  const facts = [];
  const add = (label, value) => value !== undefined && facts.push([label, value]);
  add("Tags", spec.tags && html`<span class="tags">${spec.tags.map((tag) => html`<span class="tag" key=${tag}>${tag}</span>`)}</span>`);
  add("Item", index !== null && Array.isArray(spec.array) ? html`<code>${spec.array[index]}</code>` : undefined);
  add("Array", arrayText(spec.array));
  add("Needs", spec.needs?.join(", "));
  add("Runs", spec.when === "all_done" ? "whatever became of its needs" : undefined);
  add("Retries", retryText(spec.retry));
  add("Crash limit", spec.crash_limit);
  add("Timeout", spec.timeout_s && duration(spec.timeout_s));
  add("Queued at most", spec.max_queue_s && duration(spec.max_queue_s));
  add("Start within", spec.start_timeout_s && duration(spec.start_timeout_s));
  add("Grace", spec.grace_s !== undefined ? duration(spec.grace_s) : undefined);
  add("Directory", spec.cwd && html`<code>${spec.cwd}</code>`);
  add("CPUs", spec.cpus);
  add("Memory", spec.memory_mb && `${count(spec.memory_mb)} MB`);
  add("Variables", spec.env && listOf(Object.entries(spec.env).map(([variable, value]) => `${variable}=${value}`)));
  add("Files", spec.files && listOf(Object.keys(spec.files)));
  add("Standard input", spec.stdin && html`<code>${spec.stdin}</code>`);
  return facts;
}

function arrayText(array) {
  if (array === undefined || array === null) return undefined;
  if (typeof array === "number") return `${count(array)} elements`;
  const more = array.length - ITEMS_SHOWN;
  return `${count(array.length)} items: ${array.slice(0, ITEMS_SHOWN).join(", ")}${more > 0 ? `, and ${count(more)} more` : ""}`;
}

function retryText(retry) {
  if (!retry?.max) return undefined;
  const on = retry.on_exit?.length ? `, only after exit code ${retry.on_exit.join(" or ")}` : "";
  return `${retry.max}, pausing up to ${duration(retry.backoff_s ?? 1)} at first${on}`;
}

function listOf(lines) {
  const shown = lines.slice(0, VARIABLES_SHOWN).join("\n");
  const more = lines.length - VARIABLES_SHOWN;
  return html`<pre class="lines">${shown}${more > 0 ? `\nand ${count(more)} more` : ""}</pre>`;
}
