// One task of a graph: its name, its state as shape, colour and word, and how far an array is.
import { html, memo } from "../html.js";
import { StateShape, toneOf } from "../parts.js";
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
        <text class="graph-name" x="12" y="19">${shortened(name, width - 24)}</text>
        <svg x="11" y="25" width="12" height="12" overflow="visible"><${StateShape} state=${task.state} /></svg>
        <text class="graph-state" x="28" y="35">${task.counts ? shortened(`${endedOf(task)} / ${total}${failedText(task)}`, width - 30) : task.state}</text>`}
    </g>
  `;
}

function failedText(task) {
  return task.counts.failed ? `, ${task.counts.failed} failed` : "";
}

/** A name that fits into so many pixels, its middle left out if it must be. */
function shortened(name, room) {
  const most = Math.floor(room / 7.2);
  if (name.length <= most) return name;
  const head = Math.ceil((most - 1) / 2);
  return `${name.slice(0, head)}…${name.slice(name.length - (most - 1 - head))}`;
}
