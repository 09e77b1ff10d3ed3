// All workers as a table: who is there, how loaded, and who would match a requirement.
import { count, plural } from "./formats.js";
import { Heartbeat } from "./fleet.js";
import { html, memo, useId, useMemo } from "./html.js";
import { useLive } from "./live.js";
import { Age, Choice, Empty, ErrorNote, LoadBar, Loading, Pager, Panel, StateBadge, Typed } from "./parts.js";
import { Link, Page, pathOf, setQuery } from "./router.js";
import { MANY, chosen, current, useRoster, verdict } from "./roster.js";

const ROWS_A_PAGE = 50;
const TAGS_SHOWN = 8;

const SHOWN = [["", "All, with what they miss"], ["matching", "Those that match"]];
const STATUSES = [["", "Any"], ["online", "Online"], ["suspect", "Suspect"], ["offline", "Offline"], ["draining", "Draining"]];

export function Workers({ query }) {
  const live = useLive();
  const filters = filtersOf(query);
  const { rows, wrong, error, loading, answered } = useRoster(live, filters.requires);
  const page = html`<${Page} title="Workers" lead=${lead(live)} />`;
  if (loading || live.totals === null) {
    return html`${page}<${Panel}>${error ? html`<${ErrorNote} error=${error} />` : html`<${Loading} lines=${9} what="Loading the workers" />`}<//>`;
  }
  if (live.workers.size === 0) {
    return html`${page}
      <${Panel}><${Empty} title="No worker has reported yet" command="dtask-worker --scheduler ${location.origin} --tags cpu">
        Start one on each machine that should run tasks, and say with tags what it is. It appears here with its first heartbeat.
      <//><//>`;
  }
  return html`${page}
    <div class="stack">
      <${Filters} filters=${filters} wrong=${wrong} rows=${rows} answered=${answered} />
      ${error && html`<${ErrorNote} error=${error} />`}
      <${Table} rows=${rows} filters=${wrong ? { ...filters, only: false } : filters} workers=${live.workers} />
    </div>
  `;
}

function lead(live) {
  if (live.totals === null) return null;
  const { online, suspect, offline } = live.totals.workers;
  return `${count(online)} online, ${count(suspect)} suspect, ${count(offline)} offline`;
}

/** What the address says: filters are part of it, so that a view can be linked to. */
function filtersOf(query) {
  return {
    text: query.get("id") ?? "",
    status: query.get("status") ?? "",
    requires: query.get("requires") ?? "",
    only: query.get("show") === "matching",
    sort: query.get("sort") ?? "id",
    down: query.get("down") === "1",
    page: Math.max(1, Number.parseInt(query.get("page") ?? "1", 10) || 1),
  };
}

/** Another filter starts from the first page. */
const filter = (changes) => setQuery({ page: "", ...changes });

function Filters({ filters, wrong, rows, answered }) {
  const helpId = useId();
  return html`
    <div role="search" aria-label="Workers">
      <div class="filters">
        <${Typed} label="Requirement" wide value=${filters.requires} placeholder="gpu,cuda>=12.0" invalid=${wrong !== null}
          describedBy=${helpId} change=${(requires) => filter({ requires })} />
        <${Typed} label="Worker" value=${filters.text} placeholder="Part of its id" change=${(id) => filter({ id })} />
        <${Choice} label="Status" value=${filters.status} options=${STATUSES} change=${(status) => filter({ status })} />
        ${filters.requires && html`
          <${Choice} label="Show" value=${filters.only ? "matching" : ""} options=${SHOWN} change=${(show) => filter({ show })} />`}
      </div>
      <div id=${helpId} class="filters-help">
        ${wrong ? html`<p class="wrong">${wrong.sentence.replace(/^requires\[\d+\]: /, "")}</p>`
          : filters.requires && !answered ? html`<p class="dim">Not answered yet: the rows below are those of the question before.</p>`
          : filters.requires ? html`<${Verdict} rows=${rows} />`
          : html`<p>What a task would ask for: <code>gpu</code>, either of <code>gpu|tpu</code>, none of <code>!spot</code>, a
              version ${" "}<code>cuda>=12.0</code>. Commas join them.</p>`}
      </div>
    </div>
  `;
}

function Verdict({ rows }) {
  const { matching, free, missed } = useMemo(() => verdict(rows), [rows]);
  return html`
    <p><b>${count(matching)} of ${plural(rows.length, "worker")} would match</b>, ${count(free)} of them with a free slot now.
      ${missed.length > 0 && html` The others miss ${missed.map(([one, many], index) => html`${index > 0 && ", "}<code>${one}</code> (${count(many)})`)}.`}</p>
  `;
}

const COLUMNS = [["id", "Worker"], ["address", "Address"], ["status", "Status"], ["load", "Slots taken"], [null, "Tags"], ["heartbeat", "Heartbeat"]];

function Table({ rows, filters, workers }) {
  const { text, status, only, sort, down } = filters;
  const all = useMemo(() => chosen(rows, filters), [rows, text, status, only, sort, down]);
  const pages = Math.max(1, Math.ceil(all.length / ROWS_A_PAGE));
  const page = Math.min(filters.page, pages);
  const first = (page - 1) * ROWS_A_PAGE;
  const shown = all.slice(first, first + ROWS_A_PAGE).map((row) => ({ ...current(row, workers), recent: workers.size <= MANY }));
  if (all.length === 0) return html`<${Panel}><${Empty} title="No worker is like this">Change or clear a filter to see others.<//><//>`;
  const turn = (to) => (to >= 1 && to <= pages ? () => setQuery({ page: to > 1 ? to : "" }, { replace: false }) : null);
  return html`
    <${Panel} flush>
      <div class="table-place">
        <table class="cards workers">
          <caption class="only-read">Workers, sorted by ${sort}</caption>
          <thead><tr>${COLUMNS.map(([key, name]) => html`<${Column} key=${name} sort=${key} name=${name} filters=${filters} />`)}</tr></thead>
          <tbody>${shown.map((row) => html`<${KeptRow} key=${row.id} row=${row} />`)}</tbody>
        </table>
      </div>
      <${Pager} label="${count(first + 1)} to ${count(first + shown.length)} of ${count(all.length)}" previous=${turn(page - 1)} next=${turn(page + 1)} />
    <//>
  `;
}

function Column({ sort, name, filters }) {
  if (sort === null) return html`<th scope="col">${name}</th>`;
  const here = filters.sort === sort;
  const direction = !here ? undefined : filters.down ? "descending" : "ascending";
  const change = () => filter({ sort: sort === "id" ? "" : sort, down: here && !filters.down ? "1" : "" });
  return html`
    <th scope="col" aria-sort=${direction} class="column-${sort}">
      <button type="button" class="sort" onClick=${change}>${name}<span class="sort-mark" aria-hidden="true">${here ? (filters.down ? "▼" : "▲") : ""}</span></button>
    </th>
  `;
}

function Row({ row }) {
  return html`
    <tr class="${row.standing} ${row.misses?.length ? "misses" : ""}">
      <th scope="row">
        <${Link} class="cut" to=${pathOf("workers", row.id)} title=${row.id}>${row.id}<//>
      </th>
      <td data-label="Address" class="dim"><span class="cut" title=${row.address}>${row.address}</span></td>
      <td data-label="Status"><${StateBadge} state=${row.standing} /></td>
      <td data-label="Slots taken"><${LoadBar} used=${row.used} total=${row.total} /></td>
      <td data-label="Tags"><div><${Tags} tags=${row.tags} />${row.misses?.length > 0 && html`<${Misses} misses=${row.misses} />`}</div></td>
      <td data-label="Heartbeat" class="nowrap">${row.recent ? html`<${Age} at=${row.heartbeat} />` : html`<${Heartbeat} status=${row.status} at=${row.heartbeat} />`}</td>
    </tr>
  `;
}

/** Most rows are as they were, with each message of the stream. */
const KeptRow = memo(Row, ({ row: a }, { row: b }) => a.worker === b.worker && a.standing === b.standing
  && a.used === b.used && a.total === b.total && a.heartbeat === b.heartbeat && a.recent === b.recent);

function Tags({ tags }) {
  if (tags.length === 0) return html`<span class="none">none</span>`;
  const more = tags.length - TAGS_SHOWN;
  return html`
    <span class="tags">
      ${tags.slice(0, TAGS_SHOWN).map((tag) => html`<span key=${tag} class="tag" title=${tag}>${tag}</span>`)}
      ${more > 0 && html`<span class="dim" title=${tags.slice(TAGS_SHOWN).join(", ")}>and ${more} more</span>`}
    </span>
  `;
}

const Misses = ({ misses }) => html`
  <p class="tags missed">misses ${misses.map((one) => html`<span key=${one} class="tag miss">${one}</span>`)}</p>
`;
