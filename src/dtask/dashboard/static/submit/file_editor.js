// The editor of a job file: numbered lines, and what is wrong said at its line.
import { count, plural } from "../formats.js";
import { html, useEffect, useRef, useState } from "../html.js";
import { ErrorNote } from "../parts.js";
import { EXAMPLE } from "./example.js";
import { FILE_CHARS_MAX, FileError, readJobFile } from "./job_file.js";
import { LineNumbers } from "./line_numbers.js";
import { useSending } from "./sending.js";

/** How long typing pauses before the file is read. */
const PAUSE_MS = 350;
/** Larger files are read only when they are submitted: it takes a while. */
const READ_WHILE_TYPING_CHARS = 200_000;

/** What was typed, kept while other pages are looked at. */
let kept = "";

export function FileEditor() {
  const [text, setText] = useState(kept);
  const [problem, setProblem] = useState(null); // {line, sentence}
  const area = useRef();
  const { busy, error, send, forget } = useSending();
  const read = useRead(text);
  const change = (typed) => {
    kept = typed;
    setText(typed);
    setProblem(null);
    forget();
  };
  const sent = useRef(null);
  const refused = error && { line: sent.current.lineOf({ field: error.field, cycle: error.facts.cycle }), sentence: error.sentence };
  const shown = problem ?? refused ?? read.problem;
  const submit = (event) => {
    event.preventDefault();
    try {
      sent.current = readJobFile(text);
    } catch (found) {
      if (!(found instanceof FileError)) throw found;
      setProblem({ line: found.line, sentence: found.message });
      goTo(area.current, found.line);
      return;
    }
    send(sent.current.body);
  };
  return html`
    <form class="file-form" onSubmit=${submit}>
      <div class="file-tools">
        <label for="job-file" class="field-label">Job file, YAML or JSON</label>
        <span class="button-row">
          <label class="button small file-open">Open a file…<input type="file" class="only-read" onChange=${(event) => open(event, change, setProblem)} /></label>
          ${text.trim() === "" && html`<button type="button" class="button small" onClick=${() => insertExample(area.current, change)}>Insert an example</button>`}
        </span>
      </div>
      <${Editor} area=${area} text=${text} change=${change} wrong=${shown?.line ?? null} />
      <${Said} shown=${shown} outline=${read.outline} go=${() => goTo(area.current, shown.line)} isError=${Boolean(problem ?? refused)} />
      <div class="form-end"><button class="button primary" disabled=${busy || text.trim() === ""}>${busy ? "Submitting…" : "Submit"}</button></div>
    </form>
  `;
}

function Editor({ area, text, change, wrong }) {
  const [top, setTop] = useState(0);
  return html`
    <div class="editor">
      <${LineNumbers} text=${text} top=${top} wrong=${wrong} />
      <textarea id="job-file" ref=${area} class="mono" value=${text} wrap="off" spellcheck=${false} autocomplete="off" autocapitalize="off"
                aria-invalid=${wrong === null ? undefined : "true"} aria-describedby="job-file-said" placeholder=${"tasks:\n  hello:\n    command: [echo, hello]"}
                onInput=${(event) => change(event.currentTarget.value)} onKeyDown=${keepIndent}
                onScroll=${(event) => setTop(event.currentTarget.scrollTop)}></textarea>
    </div>
  `;
}

function Said({ shown, outline, go, isError }) {
  const words = shown && (shown.line === null ? shown.sentence : html`<button type="button" class="link" onClick=${go}>Line ${shown.line}</button>: ${shown.sentence}`);
  return html`
    <div id="job-file-said" class="file-said" role="status">
      ${shown ? (isError ? html`<${ErrorNote} error=${{ sentence: words }} />` : html`<p class="field-error">${words}</p>`) : outline && html`<p class="field-hint">${outline}</p>`}
    </div>
  `;
}

/** What is in the file, in words, or what keeps it from being read; a while after typing stopped. */
function useRead(text) {
  const [read, setRead] = useState({ problem: null, outline: null });
  useEffect(() => {
    if (text.trim() === "" || text.length > READ_WHILE_TYPING_CHARS) {
      setRead({ problem: null, outline: null });
      return undefined;
    }
    const timer = setTimeout(() => setRead(readQuietly(text)), PAUSE_MS);
    return () => clearTimeout(timer);
  }, [text]);
  return read;
}

function readQuietly(text) {
  try {
    return { problem: null, outline: outlineOf(readJobFile(text).body) };
  } catch (found) {
    if (!(found instanceof FileError)) throw found;
    return { problem: { line: found.line, sentence: found.message }, outline: null };
  }
}

function outlineOf({ tasks, command, array }) {
  if (command) return `One command${array ? `, ${sizeText(array)}` : ""}.`;
  if (tasks === null || typeof tasks !== "object") return null;
  const all = Object.values(tasks);
  const elements = all.reduce((sum, task) => sum + (task?.array ? sizeOf(task.array) : 1), 0);
  return `${plural(all.length, "task")}${elements > all.length ? `, ${count(elements)} elements in all` : ""}.`;
}

const sizeOf = (array) => (Array.isArray(array) ? array.length : Number(array) || 0);
const sizeText = (array) => plural(sizeOf(array), "element");

async function open(event, change, setProblem) {
  const [file] = event.currentTarget.files;
  event.currentTarget.value = ""; // the same file may be opened again
  if (!file) return;
  if (file.size > FILE_CHARS_MAX) {
    setProblem({ line: null, sentence: `${file.name} has ${count(file.size)} bytes: expected at most ${count(FILE_CHARS_MAX)}.` });
    return;
  }
  change(await file.text());
}

/** Where nothing is yet. */
function insertExample(area, change) {
  area.focus();
  area.select();
  // The one way to put text in that undo knows.
  if (!document.execCommand("insertText", false, EXAMPLE)) change(EXAMPLE);
  area.setSelectionRange(0, 0);
  area.scrollTop = 0;
}

/** Enter goes on under the line above, as YAML wants it. */
function keepIndent(event) {
  if (event.key !== "Enter" || event.isComposing || event.ctrlKey || event.metaKey) return;
  const { value, selectionStart } = event.currentTarget;
  const line = value.slice(value.lastIndexOf("\n", selectionStart - 1) + 1, selectionStart);
  const indent = /^ */.exec(line)[0] + (line.trimEnd().endsWith(":") ? "  " : "");
  if (indent === "") return;
  if (document.execCommand("insertText", false, `\n${indent}`)) event.preventDefault();
}

/** Select a line, and bring it into sight. */
function goTo(area, line) {
  area.focus();
  if (line === null) return;
  const lines = area.value.split("\n");
  const start = lines.slice(0, line - 1).reduce((sum, each) => sum + each.length + 1, 0);
  area.setSelectionRange(start, start + (lines[line - 1]?.length ?? 0));
  const height = parseFloat(getComputedStyle(area).lineHeight);
  area.scrollTop = Math.max(0, (line - 4) * height);
  area.scrollLeft = 0;
}
