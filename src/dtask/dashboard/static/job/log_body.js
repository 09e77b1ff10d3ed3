// The lines of a log, drawn chunk by chunk; those out of sight cost no layout.
import { html, memo, useEffect, useLayoutEffect, useRef, useState } from "../html.js";
import { marked } from "./log_search.js";

const LINE_PX = 18;
/** With more of them those out of sight are not laid out. */
const FEW_CHUNKS = 5;
/** As close to the end as this counts as being at it. */
const END_PX = 40;

/**
 * `lines` are a LogLines; `atEnd` is whether it begins at its end. It stays at the end until
 * somebody scrolls up. `wanted` is marked in every line, and the line of the number `target` is
 * brought into sight.
 */
export function LogBody({ lines, numbered, wrap, atEnd, wanted, target, label, nothing }) {
  const place = useRef();
  const { isBelow, toEnd, scrolled } = useEnd(place, atEnd);
  const empty = lines.lines === 0 && lines.openLine === "";

  useEffect(() => {
    if (target === null) return;
    scrolled({ away: true });
    place.current.querySelector(`[data-line="${target}"]`)?.scrollIntoView({ block: "center", inline: "nearest" });
  }, [target, wanted]);

  const open = lines.openLine;
  const next = lines.dropped.lines + lines.lines + 1;
  return html`
    <div class="log-place">
      <div class=${`log-body ${wrap ? "wrap" : ""} ${numbered ? "numbered" : ""} ${lines.chunks.length > FEW_CHUNKS ? "long" : ""}`} ref=${place} tabindex="0" role="region"
           aria-label=${label} onScroll=${() => scrolled({ away: false })}>
        <div class="log-lines">
          ${empty && html`<p class="log-nothing">${nothing}</p>`}
          ${lines.chunks.map((chunk) => html`
            <${Chunk} key=${chunk.first} chunk=${chunk} size=${chunk.lines.length} wanted=${wanted} target=${within(chunk, target)} />`)}
          ${open !== "" && line(next, open, wanted, false)}
        </div>
      </div>
      ${isBelow && html`
        <button type="button" class="button small log-to-end" onClick=${toEnd}>To the end ↓</button>`}
    </div>
  `;
}

/**
 * Stays at the end while it is held there: what grows or is laid out late moves the end, and only a
 * scroll upwards lets go of it. `isBelow`: there is more below what is seen.
 */
function useEnd(place, atEnd) {
  const held = useRef(atEnd);
  const top = useRef(0);
  const [isBelow, setBelow] = useState(false);
  const below = () => place.current.scrollHeight - place.current.scrollTop - place.current.clientHeight;
  const settle = () => {
    if (held.current) place.current.scrollTop = place.current.scrollHeight;
    top.current = place.current.scrollTop;
    setBelow(below() >= END_PX);
  };
  useLayoutEffect(() => {
    const observer = new ResizeObserver(settle);
    observer.observe(place.current);
    observer.observe(place.current.firstElementChild);
    return () => observer.disconnect();
  }, []);
  const scrolled = ({ away }) => {
    if (away || place.current.scrollTop < top.current - 1) held.current = false;
    else if (below() < END_PX) held.current = true;
    top.current = place.current.scrollTop;
    setBelow(below() >= END_PX);
  };
  const toEnd = () => {
    held.current = true;
    settle();
  };
  return { isBelow, toEnd, scrolled };
}

/** `target` if it is a line of this chunk. */
function within({ first, lines }, target) {
  return target !== null && target >= first && target < first + lines.length ? target : null;
}

/** Lines are added to the last chunk alone: the others are not looked at again. */
const Chunk = memo(
  ({ chunk, size, wanted, target }) => html`
    <div class="log-chunk" style=${{ containIntrinsicHeight: `auto ${size * LINE_PX}px` }}>
      ${chunk.lines.map((painted, at) => line(chunk.first + at, painted, wanted, chunk.first + at === target))}
    </div>
  `,
  (old, next) => old.size === next.size && old.wanted === next.wanted && old.target === next.target,
);

/** No component: there are thousands, and none has anything of its own to remember. */
function line(number, painted, wanted, current) {
  return html`<div key=${number} class=${current ? "log-line current" : "log-line"} data-line=${number}>${content(painted, wanted)}</div>`;
}

function content(painted, wanted) {
  if (wanted === "" && typeof painted === "string") return painted;
  const pieces = wanted === "" ? painted.map(([text, classes]) => [text, classes, false]) : marked(painted, wanted);
  return pieces.map(([text, classes, isFound], at) => {
    if (isFound) return html`<mark key=${at}>${text}</mark>`;
    return classes === "" ? text : html`<span key=${at} class=${classes}>${text}</span>`;
  });
}
