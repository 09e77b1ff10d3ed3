// How a state looks: a shape, a colour and a word, so that none of them is needed alone.
import { html } from "./html.js";

const RING = html`<circle cx="6" cy="6" r="4.25" />`;
const CROSS = html`<path d="M2.5 2.5l7 7M9.5 2.5l-7 7" />`;

/** state -> [tone, shape]. Tones are classes of style.css; shapes fill a box of 12 by 12. */
const LOOKS = {
  // tasks and jobs
  pending: ["quiet", html`<circle cx="6" cy="6" r="4.25" stroke-dasharray="2 2.2" />`],
  queued: ["quiet", RING],
  scheduled: ["run", html`${RING}<path class="solid" d="M6 1.75a4.25 4.25 0 0 1 0 8.5z" />`],
  running: ["run", html`<path class="solid" d="M3 1.8v8.4L10.2 6z" />`],
  succeeded: ["ok", html`<path d="M1.8 6.6l2.9 2.9 5.6-6.4" />`],
  failed: ["bad", CROSS],
  cancelled: ["quiet", html`${RING}<path d="M3 9l6-6" />`],
  skipped: ["quiet", html`<path d="M2 3l3.5 3L2 9M6.5 3L10 6 6.5 9" />`],
  // attempts that came to nothing by no fault of their task
  lost: ["warn", CROSS],
  returned: ["quiet", html`<path d="M10 9V5.5H2.5M5 3L2.5 5.5 5 8" />`],
  // workers
  online: ["ok", html`<circle class="solid" cx="6" cy="6" r="3.75" />`],
  suspect: ["warn", html`<path class="solid" d="M6 1.2l5.2 9.4H.8z" />`],
  offline: ["bad", CROSS],
  draining: ["warn", html`<path d="M6 1.5v8M2.6 6.3L6 9.8l3.4-3.5" />`],
  // queues, and what needs attention
  paused: ["warn", html`<path d="M4 2v8M8 2v8" />`],
  warning: ["warn", html`<path class="solid" d="M6 1.2l5.2 9.4H.8z" />`],
  serious: ["bad", html`<path class="solid" d="M3.8 1h4.4L11 3.8v4.4L8.2 11H3.8L1 8.2V3.8z" />`],
};

const UNKNOWN = ["quiet", RING];

/** The tone of a state: ok, run, warn, bad or quiet. For whoever draws it in another way. */
export const toneOf = (state) => (LOOKS[state] ?? UNKNOWN)[0];

/** The shape of a state alone; whoever uses it says the word. */
export function StateShape({ state }) {
  const [tone, shape] = LOOKS[state] ?? UNKNOWN;
  return html`<svg class="shape tone-${tone}" viewBox="0 0 12 12" aria-hidden="true">${shape}</svg>`;
}

/** Shape, colour and word. `word` where another than the state's own is said. */
export function StateBadge({ state, word }) {
  return html`<span class="state"><${StateShape} state=${state} />${word ?? state}</span>`;
}
