// One task of a graph: its name, its state as shape, colour and word, and how far an array is.
import { html, memo } from "../html.js";
import { StateShape, toneOf } from "../parts.js";
import { fitted } from "./fitted.js";
import { endedOf, progressOf, totalOf } from "./progress.js";

/** `box` is where it stands; `small`: nothing in it could be read. */
export const Box = memo(drawn, isSame);

function isSame(old, next) {
  return (
    old.box === next.box && old.isSelected === next.isSelected && old.isFocused === next.isFocused && old.small === next.small &&
    old.task.state === next.task.state && JSON.stringify(old.task.counts) === JSON.stringify(next.task.counts)
  );
}

function drawn({ name, task, box, isSelected, isFocused, small, select }) {
  const { x, y, width, height } = box;
  const tone = toneOf(task.state);
  const total = totalOf(task);
  const told = task.counts ? progressOf(task) : task.state;
  return html`
    <g class="graph-box tone-${tone} is-${task.state} ${isSelected ? "selected" : ""}" transform=${`translate(${x - width / 2} ${y - height / 2})`}
       data-task=${name} data-state=${task.state} tabindex=${isFocused ? 0 : -1} role="button" aria-pressed=${isSelected}
       aria-label=${`${name}: ${told}`} onClick=${() => select(name)}>
      <title>${`${name}: ${told}`}</title>
      <rect class="graph-rect" width=${width} height=${height} rx="6" />
      ${task.counts && html`
        <rect class="graph-bar" x="1" y=${height - 4} width=${Math.max(0, (width - 2) * (endedOf(task) / total))} height="3" />`}
      ${!small && html`
        <text class="graph-name" x="12" y="19">${fitted(name, width - 22, "600 13px")}</text>
        <svg x="11" y="25" width="12" height="12" overflow="visible"><${StateShape} state=${task.state} /></svg>
        <text class="graph-state" x="28" y="35">${fitted(task.counts ? `${endedOf(task)} / ${total}${failedText(task)}` : task.state, width - 36, "11.5px")}</text>`}
    </g>
  `;
}

function failedText(task) {
  return task.counts.failed ? `, ${task.counts.failed} failed` : "";
}
