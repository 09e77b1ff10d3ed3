// The elements of an array as a list, in one state or in all: what the grid shows, in words.
import { count } from "../formats.js";
import { html, useState } from "../html.js";
import { Choice, ErrorNote, Loading, Pager, StateBadge, Time } from "../parts.js";
import { Link } from "../router.js";
import { CauseText } from "./cause.js";
import { pathOf } from "./log_reader.js";
import { useFresh } from "./fresh.js";

const ROWS = 50;

/** `counts` are those of the array; `link(index)` gives what a link to one needs. */
export function Elements({ jobId, name, counts, link, selected }) {
  const [state, setState] = useState(counts.failed ? "failed" : "");
  const [pages, setPages] = useState([-1]);
  const after = pages.at(-1);
  const query = { state, limit: ROWS, after: after >= 0 ? after : null };
  const { data, error, reload } = useFresh(jobId, pathOf({ jobId, task: name }, "elements"), query);
  const change = (wanted) => {
    setState(wanted);
    setPages([-1]);
  };
  const states = Object.keys(counts).filter((each) => counts[each] > 0);
  const options = [["", "All"], ...states.map((each) => [each, `${each} (${count(counts[each])})`])];
  return html`
    <div class="filters in-panel"><${Choice} label="Elements" value=${state} options=${options} change=${change} /></div>
    ${error && html`<${ErrorNote} error=${error} retry=${reload} />`}
    ${data === null ? html`<${Loading} what="Loading the elements" />` : html`<${Rows} rows=${data.elements} name=${name} link=${link} selected=${selected} />`}
    ${data && (pages.length > 1 || data.after !== undefined) && html`
      <${Pager} label=${data.elements.length ? `${count(data.elements[0].index)} to ${count(data.elements.at(-1).index)}` : ""}
                previous=${pages.length > 1 ? () => setPages(pages.slice(0, -1)) : null}
                next=${data.after === undefined ? null : () => setPages([...pages, data.after])} />`}
  `;
}

function Rows({ rows, name, link, selected }) {
  if (rows.length === 0) return html`<p class="panel-note dim">No element is in this state.</p>`;
  return html`
    <div class="table-place">
      <table class="cards">
        <thead><tr><th scope="col">Element</th><th scope="col">State</th><th scope="col" class="number">Attempts</th><th scope="col">Queued</th><th scope="col">Ended</th></tr></thead>
        <tbody>${rows.map((row) => html`
          <tr key=${row.index} class=${row.index === selected ? "selected" : ""}>
            <th scope="row"><${Link} ...${link(row.index)} class="break">${name}[${row.index}]<//></th>
            <td data-label="State"><span class="state-cell"><${StateBadge} state=${row.state} /><${CauseText} row=${row} /></span></td>
            <td data-label="Attempts" class="number">${count(row.number ?? 0)}</td>
            <td data-label="Queued"><${Time} at=${row.queued_at} /></td>
            <td data-label="Ended"><${Time} at=${row.ended_at} /></td>
          </tr>`)}</tbody>
      </table>
    </div>
  `;
}
