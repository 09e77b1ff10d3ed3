// The log of one attempt: followed while it is written, searched, and never more than a page holds.
import { address } from "../api.js";
import { bytes, count, plural } from "../formats.js";
import { html, useEffect, useId, useMemo, useReducer, useRef, useState } from "../html.js";
import { ErrorNote } from "../parts.js";
import { CHARS_MAX, LINES_MAX, LogLines } from "./log_lines.js";
import { LogBody } from "./log_body.js";
import { pathOf, readLog, readStart, whose } from "./log_reader.js";
import { found } from "./log_search.js";

/** A log that has ended and is longer is read from its end: this much of it. */
const TAIL_BYTES = 4 * 1024 * 1024;

const DRAW_MS = 100;

/**
 * `place` is `{jobId, task, index, attempt}`, `row` the attempt as the API shows it; `stream` is
 * which of the two is shown, `choose(stream)` shows the other.
 */
export function LogViewer({ place, row, stream, choose }) {
  const [fromStart, setFromStart] = useState(false);
  const [wrap, setWrap] = useState(true);
  const [text, setText] = useState("");
  const [current, setCurrent] = useState(0);
  const log = useLog({ ...place, stream }, row, fromStart);
  const search = useMemo(
    () => (text === "" ? null : found(log.lines.chunks, text)),
    [text, log.lines, log.lines.version],
  );
  const at = search ? Math.min(current, Math.max(0, search.lines.length - 1)) : 0;
  const step = (by) => search.lines.length > 0 && setCurrent((at + by + search.lines.length) % search.lines.length);
  const size = (name) => row[`${name}_bytes`] ?? 0;
  return html`
    <div class="log">
      <div class="log-tools">
        <div class="switch" role="group" aria-label="Stream">
          ${["stdout", "stderr"].map((name) => html`
            <button type="button" key=${name} aria-pressed=${stream === name} onClick=${() => choose(name)}>
              ${name}${size(name) > 0 && html`<span class="dim"> ${bytes(size(name))}</span>`}
            </button>`)}
        </div>
        <${Search} text=${text} search=${search} at=${at} step=${step}
                   change=${(wanted) => { setText(wanted); setCurrent(0); }} />
        <label class="check"><input type="checkbox" checked=${wrap} onChange=${() => setWrap(!wrap)} />Wrap</label>
        <a class="button small" href=${address(pathOf(place, "log"), { ...whose(place), stream, limit: LOG_BYTES_MAX }).href}
           download=${fileName(place, stream)}>Download</a>
      </div>
      <${Missing} log=${log} fromStart=${fromStart} change=${setFromStart} />
      ${log.error && html`<${ErrorNote} error=${log.error} />`}
      <${LogBody} key=${log.key} lines=${log.lines} numbered=${log.skipped === 0} wrap=${wrap} atEnd=${!fromStart && row.state !== "succeeded"}
                  wanted=${text.toLowerCase()} target=${search?.lines[at] ?? null} label=${`${stream} of ${fileName(place, "")}`}
                  nothing=${log.state === "over" ? `It wrote nothing to ${stream}.` : `Nothing on ${stream} yet. What it writes to ${stream === "stdout" ? "stderr" : "stdout"} is beside it, above.`} />
      <${Standing} log=${log} row=${row} fromStart=${fromStart} />
    </div>
  `;
}

/** What the API gives in one answer at most. */
const LOG_BYTES_MAX = 64 * 1024 * 1024;

/** A name for the file: `42-tile-7-attempt-2-stdout.log`. */
function fileName({ jobId, task, index, attempt }, stream) {
  const parts = [jobId, task, index, "attempt", attempt, stream];
  return `${parts.filter((part) => part !== null && part !== undefined && part !== "").join("-")}${stream && ".log"}`;
}

function Search({ text, search, at, step, change }) {
  const status = useId();
  const keys = (event) => {
    if (event.key !== "Enter" || !search) return;
    event.preventDefault();
    step(event.shiftKey ? -1 : 1);
  };
  return html`
    <div class="log-search">
      <input type="search" aria-label="Search in the log" placeholder="Search" value=${text} spellcheck=${false}
             autocomplete="off" aria-describedby=${status} onInput=${(event) => change(event.currentTarget.value)} onKeyDown=${keys} />
      <button type="button" class="button small" disabled=${!search?.lines.length} onClick=${() => step(-1)} aria-label="Previous line found">↑</button>
      <button type="button" class="button small" disabled=${!search?.lines.length} onClick=${() => step(1)} aria-label="Next line found">↓</button>
      <span id=${status} class="dim nowrap" role="status">${search && foundText(search, at)}</span>
    </div>
  `;
}

function foundText({ lines, more }, at) {
  return lines.length === 0 ? "not found" : `${count(at + 1)} of ${count(lines.length)}${more ? "+" : ""}`;
}

/** What of the log is not in the page, and how to see it. */
function Missing({ log, fromStart, change }) {
  const { dropped } = log.lines;
  const sentences = [];
  if (fromStart) sentences.push(`The first ${bytes(TAIL_BYTES)} of it.`);
  if (log.skipped > 0) sentences.push(`The first ${bytes(log.skipped)} are not shown.`);
  if (dropped.lines > 0) {
    sentences.push(
      `${plural(dropped.lines, "earlier line")} left the page, which keeps ${count(LINES_MAX)} lines or ` +
        `${bytes(CHARS_MAX)}. The download has them.`,
    );
  }
  if (sentences.length === 0) return null;
  return html`
    <p class="log-note">
      ${sentences.join(" ")}${" "}
      <button type="button" class="link" onClick=${() => change(!fromStart)}>${fromStart ? "Show the end" : "Show the beginning"}</button>
    </p>
  `;
}

const STATES = {
  connecting: "Opening the log…",
  following: "Following it as it is written",
  resting: "Not followed while nobody looked",
  broken: "The connection broke: trying again",
  over: "The attempt has ended; this is all",
  refused: "The log can't be read",
};

function Standing({ log, row, fromStart }) {
  const lines = log.lines.lines + (log.lines.openLine === "" ? 0 : 1);
  const isPart = row.truncated || row.log_lost;
  const words = log.state === "over" && (fromStart || isPart) ? (fromStart ? "The beginning of the log" : "The attempt has ended; this is what there is") : STATES[log.state];
  return html`
    <p class="log-standing ${log.state}" role="status">
      <span>${words}</span>
      <span class="dim">${plural(lines, "line")}${log.state === "over" || lines > 0 ? `, ${bytes(log.read)} read` : ""}</span>
      ${row.truncated && html`<span class="tone-warn">It wrote more than is kept: the rest was not.</span>`}
      ${row.log_lost && html`<span class="tone-warn">Some of it was lost with its worker.</span>`}
    </p>
  `;
}

/** `{lines, state, error, skipped, read}` of a log, drawn again a few times a second while it grows. */
function useLog(place, row, fromStart) {
  const [, redraw] = useReducer((number) => number + 1, 0);
  const key = JSON.stringify([place, fromStart]);
  const held = useRef(null);
  if (held.current?.key !== key) held.current = emptyLog(key);

  useEffect(() => {
    const log = held.current;
    const controller = new AbortController();
    const { signal } = controller;
    let timer = null;
    const draw = () => {
      timer ??= setTimeout(() => {
        timer = null;
        redraw();
      }, DRAW_MS);
    };
    const take = (piece) => {
      log.read += piece.length;
      log.lines.feed(piece);
      draw();
    };
    const said = (state, error = null) => {
      if (state === "over") log.lines.end();
      log.state = state;
      log.error = error;
      draw();
    };
    if (fromStart) {
      readStart(place, TAIL_BYTES, { take, signal }).then(
        () => said("over"),
        (error) => signal.aborted || said("refused", error),
      );
    } else {
      log.skipped = Math.max(0, (row[`${place.stream}_bytes`] ?? 0) - TAIL_BYTES);
      readLog(place, log.skipped, { take, said, signal });
    }
    return () => {
      controller.abort();
      clearTimeout(timer);
    };
  }, [key]);
  return held.current;
}

function emptyLog(key) {
  return { key, lines: new LogLines(), state: "connecting", error: null, skipped: 0, read: 0 };
}
