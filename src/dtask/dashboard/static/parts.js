// The parts that pages are made of.
import { html, useEffect, useRef, useState } from "./html.js";
import { ago, duration, full, moment } from "./formats.js";
import { useNow } from "./live.js";

export { Confirm } from "./confirm.js";
export { StateBadge, StateShape, toneOf } from "./state.js";

/** A box with a heading. `aside` stands at the right of the heading; `flush` for tables. */
export function Panel({ title, aside, flush, class: more = "", children }) {
  return html`
    <section class="panel ${flush ? "flush" : ""} ${more}" aria-label=${title}>
      ${title &&
      html`<header class="panel-head"><h2>${title}</h2>${aside && html`<div class="panel-aside">${aside}</div>`}</header>`}
      <div class="panel-body">${children}</div>
    </section>
  `;
}

/** How full something is: a bar, and the two numbers. */
export function LoadBar({ used, total, numbers = true }) {
  const share = total > 0 ? Math.min(1, used / total) : 0;
  const level = share >= 1 ? "full" : share > 0.85 ? "high" : "";
  return html`
    <span class="load ${level}">
      <span class="load-track" aria-hidden="true">
        <span class="load-fill" style=${{ width: `${share * 100}%` }}></span>
      </span>
      ${numbers && html`<span class="load-numbers">${used}<span class="of"> / ${total}</span></span>`}
    </span>
  `;
}

/** How long ago something was, counted on each second by the scheduler's clock. */
export function Age({ at }) {
  const now = useNow();
  if (at === null || at === undefined) return html`<span class="none">–</span>`;
  return html`<time datetime=${iso(at)} title=${full(at)}>${ago(Math.max(0, now - at))}</time>`;
}

/** How long something takes: from `from` to `to`, or to now while `to` is null. */
export function Lasting({ from, to = null }) {
  const now = useNow();
  if (from === null || from === undefined) return html`<span class="none">–</span>`;
  const length = Math.max(0, (to ?? now) - from);
  return html`<span class="number">${duration(to === null ? Math.floor(length) || length : length)}</span>`;
}

/** When something was: the time of day, with the date if that was not today. */
export function Time({ at }) {
  const now = useNow();
  if (at === null || at === undefined) return html`<span class="none">–</span>`;
  return html`<time datetime=${iso(at)} title=${full(at)}>${moment(at, now)}</time>`;
}

const iso = (epoch_s) => new Date(epoch_s * 1000).toISOString();

/** A command to type, and a button that copies it. */
export function Command({ children }) {
  const [copied, setCopied] = useState(false);
  const text = [children].flat().join("");
  useEffect(() => {
    if (!copied) return undefined;
    const timer = setTimeout(() => setCopied(false), 2_000);
    return () => clearTimeout(timer);
  }, [copied]);
  // Browsers give the clipboard only to pages of localhost or TLS.
  const copy = navigator.clipboard
    && (() => navigator.clipboard.writeText(text).then(() => setCopied(true), () => {}));
  return html`
    <span class="command">
      <code>${text}</code>
      ${copy && html`<button type="button" class="copy" onClick=${copy} aria-label="Copy ${text}">${copied ? "Copied" : "Copy"}</button>`}
    </span>
  `;
}

/** Nothing is there: why, and the command that changes that. */
export function Empty({ title, command, children }) {
  return html`
    <div class="empty">
      <p class="empty-title">${title}</p>
      ${children && html`<div class="empty-text">${children}</div>`}
      ${command && html`<${Command}>${command}<//>`}
    </div>
  `;
}

/** What the API said was wrong; `retry` is what the button does, if it is worth another try. */
export function ErrorNote({ error, retry }) {
  if (!error || error.code === "aborted") return null;
  return html`
    <div class="error-note" role="alert">
      <p>${error.sentence ?? error.message}</p>
      ${retry && html`<button type="button" class="button small" onClick=${retry}>Try again</button>`}
    </div>
  `;
}

/** Something is on its way: grey lines in its place, and no movement. */
export function Loading({ lines = 4, what = "Loading" }) {
  return html`
    <div class="loading" role="img" aria-label=${what}>
      ${Array.from({ length: lines }, (_, line) => html`<span key=${line} class="loading-line"></span>`)}
    </div>
  `;
}

/** Page by page: what is shown, and the two buttons. A missing `previous` or `next` is disabled. */
export function Pager({ label, previous, next }) {
  return html`
    <nav class="pager" aria-label="Pages of the list">
      <span class="pager-label">${label}</span>
      <button type="button" class="button small" disabled=${!previous} onClick=${previous}>Previous</button>
      <button type="button" class="button small" disabled=${!next} onClick=${next}>Next</button>
    </nav>
  `;
}

/** One of a few: `options` are pairs of value and word. */
export function Choice({ label, value, options, change }) {
  return html`
    <label class="field">
      <span class="field-label">${label}</span>
      <select value=${value} onChange=${(event) => change(event.currentTarget.value)}>
        ${options.map(([one, word]) => html`<option key=${one} value=${one}>${word}</option>`)}
      </select>
    </label>
  `;
}

/** A line to type into. `change` is called once typing pauses for `pause_ms`, and on Enter. */
export function Typed({ label, value, change, placeholder, pause_ms = 300, invalid, describedBy, wide }) {
  const timer = useRef();
  const field = useRef();
  useEffect(() => {
    // The address may change it too; what is being typed is never overwritten.
    if (document.activeElement !== field.current) field.current.value = value;
  }, [value]);
  useEffect(() => () => clearTimeout(timer.current), []);
  const say = (text) => {
    clearTimeout(timer.current);
    if (text !== value) change(text);
  };
  return html`
    <label class="field ${wide ? "wide" : ""}">
      <span class="field-label">${label}</span>
      <input type="search" ref=${field} defaultValue=${value} placeholder=${placeholder} spellcheck=${false}
             autocomplete="off" autocapitalize="off" aria-invalid=${invalid ? "true" : undefined}
             aria-describedby=${describedBy}
             onInput=${(event) => {
               const text = event.currentTarget.value;
               clearTimeout(timer.current);
               timer.current = setTimeout(() => say(text), pause_ms);
             }}
             onKeyDown=${(event) => event.key === "Enter" && say(event.currentTarget.value)} />
    </label>
  `;
}
