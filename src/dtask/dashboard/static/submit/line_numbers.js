// The numbers beside the lines of an editor; only those in sight are drawn.
import { html } from "../html.js";

const LINE_PX = 20;
/** More than any editor on a screen shows. */
const SHOWN = 80;

/** `top` is how far the text is scrolled, `wrong` the number of a line with an error, or null. */
export function LineNumbers({ text, top, wrong }) {
  const lines = countOf(text);
  const first = Math.max(0, Math.floor(top / LINE_PX) - 2);
  const shown = Math.min(SHOWN, lines - first);
  const style = { transform: `translateY(${first * LINE_PX - top}px)` };
  return html`
    <div class="line-numbers" aria-hidden="true"><div style=${style}>
      ${Array.from({ length: shown }, (_, at) => first + at + 1).map((number) => html`
        <div key=${number} class=${number === wrong ? "wrong" : ""}>${number}</div>`)}
    </div></div>
  `;
}

function countOf(text) {
  let lines = 1;
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) lines += 1;
  return lines;
}
