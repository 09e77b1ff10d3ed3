// The form for one command.
import { html, useId, useRef, useState } from "../html.js";
import { useSelected } from "../live.js";
import { ErrorNote } from "../parts.js";
import { bodyOf, fieldOf, sentenceOf } from "./command_body.js";
import { useSending } from "./sending.js";
import { wordsOf } from "./words.js";

/** What was typed, kept while other pages are looked at. */
let kept = {};

/** Words of a command that are shown one by one. */
const WORDS_SHOWN = 40;

export function CommandForm() {
  const [values, setValues] = useState(kept);
  const [wrong, setWrong] = useState(new Map()); // by field: a sentence
  const form = useRef();
  const { busy, error, send, forget } = useSending();
  const change = (name, value) => {
    kept = { ...values, [name]: value };
    setValues(kept);
    setWrong(new Map([...wrong].filter(([field]) => field !== name)));
    forget();
  };
  const refused = error && { field: fieldOf(error), sentence: sentenceOf(error) };
  const wrongs = refused?.field ? new Map([...wrong, [refused.field, refused.sentence]]) : wrong;
  const submit = (event) => {
    event.preventDefault();
    const { body, problems } = bodyOf(values);
    setWrong(problems);
    if (problems.size === 0) send(body);
    else form.current.elements.namedItem([...problems.keys()][0])?.focus();
  };
  const field = (name, label, rest = {}) => html`
    <${Field} key=${name} name=${name} label=${label} value=${values[name] ?? ""} change=${change} refused=${wrongs.get(name) ?? null} ...${rest} />`;
  return html`
    <form class="command-form" ref=${form} onSubmit=${submit} novalidate>
      ${field("command", "Command", { rows: 3, mono: true, placeholder: "python train.py --epochs 3" })}
      <${Words} values=${values} change=${change} isRefused=${wrongs.has("command")} />
      <div class="form-grid">
        ${field("name", "Name", { hint: "For people; by default the command" })}
        <${QueueField} field=${field} />
        ${field("tags", "Tags", { placeholder: "gpu, cuda>=12", hint: "What its worker must have" })}
        ${field("priority", "Priority", { placeholder: "0", hint: "-100 to 100, higher first", numeric: true })}
        ${field("timeout_s", "Timeout", { placeholder: "none", hint: "90, 5m, 2h: then an attempt is stopped" })}
        ${field("retry.max", "Retries", { placeholder: "0", hint: "After how many failures it runs again", numeric: true })}
      </div>
      <details class="more" open=${hasMore(values)}>
        <summary>More</summary>
        <div class="form-grid">
          ${field("array", "Array", { rows: 3, mono: true, placeholder: "16", hint: "A count, or one item a line; {} in the command is the item" })}
          ${field("env", "Variables", { rows: 3, mono: true, placeholder: "EPOCHS=3", hint: "NAME=value, one a line" })}
          ${field("cwd", "Directory", { mono: true, placeholder: "/data/project", hint: "Of the worker's machine; by default one of its own" })}
          ${field("after", "After jobs", { placeholder: "41, 42", hint: "Not before these have succeeded" })}
          ${field("retry.backoff_s", "Pause before a retry", { placeholder: "1", hint: "Up to this, doubling each time" })}
          ${field("max_queue_s", "Queued at most", { placeholder: "no limit", hint: "Then it fails" })}
          ${field("cpus", "CPUs", { placeholder: "no limit", numeric: true })}
          ${field("memory_mb", "Memory, MB", { placeholder: "no limit", numeric: true })}
        </div>
      </details>
      ${refused && refused.field === null && html`<${ErrorNote} error=${refused} />`}
      <div class="form-end"><button class="button primary" disabled=${busy}>${busy ? "Submitting…" : "Submit"}</button></div>
    </form>
  `;
}

const MORE = ["array", "env", "cwd", "after", "retry.backoff_s", "max_queue_s", "cpus", "memory_mb"];
const hasMore = (values) => MORE.some((name) => (values[name] ?? "") !== "");

function QueueField({ field }) {
  const queues = useSelected((live) => live.totals?.queues) ?? [];
  const list = useId();
  return html`
    ${field("queue", "Queue", { placeholder: "default", hint: "The line in which it waits", list })}
    <datalist id=${list}>${queues.map(({ name }) => html`<option key=${name} value=${name} />`)}</datalist>`;
}

function Field({ name, label, value, change, refused, rows, mono, hint, placeholder, numeric, list }) {
  const id = useId();
  const shared = {
    id, name, value, placeholder, list, class: mono ? "mono" : "", spellcheck: false, autocomplete: "off", autocapitalize: "off",
    inputmode: numeric ? "decimal" : undefined, "aria-invalid": refused ? "true" : undefined, "aria-describedby": `${id}-said`,
    onInput: (event) => change(name, event.currentTarget.value),
  };
  return html`
    <div class="field ${rows ? "tall" : ""}">
      <label class="field-label" for=${id}>${label}</label>
      ${rows ? html`<textarea rows=${rows} ...${shared}></textarea>` : html`<input type="text" ...${shared} />`}
      <p id=${`${id}-said`} class=${refused ? "field-error" : "field-hint"} role=${refused ? "alert" : undefined}>${refused ?? hint ?? ""}</p>
    </div>
  `;
}

/** The words that the program will be given, and a hint where a shell is meant. */
function Words({ values, change, isRefused }) {
  const { words, error, signs } = wordsOf(values.command ?? "");
  const shown = values.shell ? ["sh", "-c", values.command ?? ""] : words;
  return html`
    <div class="words">
      ${shown.length > 0 && html`
        <ol class="word-list" aria-label="Words of the command">
          ${shown.slice(0, WORDS_SHOWN).map((word, at) => html`<li key=${at}>${word === "" ? html`<span class="dim">empty</span>` : word}</li>`)}
          ${shown.length > WORDS_SHOWN && html`<li class="dim">and ${shown.length - WORDS_SHOWN} more</li>`}
        </ol>`}
      ${error && !values.shell && !isRefused && html`<p class="field-error">${error}</p>`}
      ${signs.length > 0 && !values.shell && html`<p class="field-note">No shell looks at this: ${signs.join(", ")} would be plain text.</p>`}
      <label class="check"><input type="checkbox" checked=${Boolean(values.shell)} onChange=${(event) => change("shell", event.currentTarget.checked)} />Run it by a shell (sh -c)</label>
    </div>
  `;
}
