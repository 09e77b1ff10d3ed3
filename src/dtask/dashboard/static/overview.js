// The first page: what the fleet does, what waits, and what needs attention now.
import { Chart } from "./chart.js";
import { Fleet } from "./fleet.js";
import { count, measure, percent, plural } from "./formats.js";
import { useHistory } from "./history.js";
import { html } from "./html.js";
import { useLive } from "./live.js";
import { Empty, Loading, Panel, StateBadge, StateShape } from "./parts.js";
import { QueueTable } from "./queues.js";
import { Link, Page } from "./router.js";

export function Overview() {
  const live = useLive();
  const history = useHistory(live);
  const { totals } = live;
  if (totals === null) {
    return html`<${Page} title="Overview"><${Panel}><${Loading} lines=${9} what="Loading the overview" /><//><//>`;
  }
  return html`
    <${Page} title="Overview">
      <div class="stack">
        <${Panel} class="headline"><${Figures} totals=${totals} /><//>
        <div class="grid">
          <div class="aside stack">
            <${Attention} items=${totals.attention} />
            <${Tasks} totals=${totals} />
          </div>
          <div class="beside"><${FleetPanel} live=${live} /></div>
          <${Charts} history=${history} />
        </div>
        <${QueueTable} queues=${totals.queues} />
      </div>
    <//>
  `;
}

function Figures({ totals }) {
  const { workers, tasks, rates } = totals;
  const all = workers.online + workers.suspect + workers.offline;
  const share = totals.slots > 0 ? `${percent(totals.occupied / totals.slots)} of ` : "of ";
  return html`
    <dl class="figures">
      <${Figure} name="Workers online" value=${count(workers.online)} more="of ${count(all)}" />
      <${Figure} name="Slots taken" value=${count(totals.occupied)} more="${share}${count(totals.slots)}" />
      <${Figure} name="Tasks running" value=${count(tasks?.running)} more="${count(tasks?.scheduled)} scheduled" />
      <${Figure} name="Tasks queued" value=${count(tasks?.queued)} more="${count(tasks?.pending)} pending" />
      <${Figure} name="Placements per second" value=${measure(rates.placements)} more="${measure(rates.refusals)} refused" />
      <${Figure} name="Placement p99, ms" value=${measure(totals.placement_p99_ms)} more="over the last 10 s" />
    </dl>
  `;
}

const Figure = ({ name, value, more }) => html`
  <div class="figure"><dt>${name}</dt><dd>${value}</dd><dd class="more">${more}</dd></div>
`;

function FleetPanel({ live }) {
  const { workers } = live.totals;
  const size = live.workers.size;
  if (size === 0) {
    return html`
      <${Panel} title="Fleet" class="fill">
        <${Empty} title="No worker has reported yet" command="dtask-worker --scheduler ${location.origin}">
          Start one on each machine that should run tasks.
        <//>
      <//>`;
  }
  const aside = html`${plural(size, "worker")}, ${count(workers.online)} online · <${Link} to="/workers">as a table<//>`;
  return html`<${Panel} title="Fleet" aside=${aside} class="fill"><${Fleet} live=${live} /><//>`;
}

function Attention({ items }) {
  return html`
    <${Panel} title="Needs attention" aside=${items.length ? count(items.length) : null}>
      ${items.length === 0
        ? html`<p class="all-well"><${StateShape} state="succeeded" />Nothing does.</p>`
        : html`<ul class="attention">${items.map((item) => html`
            <li key=${`${item.code} ${item.link}`}>
              <${StateShape} state=${item.level} />
              <span><span class="only-read">${item.level}: </span>${item.link ? html`<a href=${item.link}>${item.sentence}</a>` : item.sentence}</span>
            </li>`)}</ul>`}
    <//>
  `;
}

const LIVING = ["running", "scheduled", "queued", "pending"];
const ENDED = ["succeeded", "failed", "cancelled", "skipped"];

function Tasks({ totals }) {
  return html`
    <${Panel} title="Tasks by state">
      ${totals.tasks === null
        ? html`<p class="dim">Not known while the store fails.</p>`
        : html`
          <div class="columns">
            <${States} caption="Now" states=${LIVING} counts=${totals.tasks} />
            <${States} caption="Ended since the start" states=${ENDED} counts=${totals.ended} />
          </div>`}
    <//>
  `;
}

const States = ({ caption, states, counts }) => html`
  <div>
    <h3>${caption}</h3>
    <dl class="states">
      ${states.map((state) => html`
        <div key=${state}>
          <dt><${StateBadge} state=${state} /></dt>
          <dd>${state === "failed" && counts.failed ? html`<${Link} to="/failed">${count(counts.failed)}<//>` : count(counts[state])}</dd>
        </div>`)}
    </dl>
  </div>
`;

function Charts({ history }) {
  const { times, series } = history;
  const line = (name, values, colour, fill = false) => ({ name, values, colour, fill });
  return html`
    <${Chart} class="span-3" title="Placements" times=${times} format=${(value) => measure(value)} top=${1}
      lines=${[line("placed/s", series.placements, "--accent", true), line("refused/s", series.refusals, "--bad")]} />
    <${Chart} class="span-3" title="Placement p99" times=${times} format=${(value) => measure(value)} top=${1}
      lines=${[line("ms", series.placement_p99_ms, "--accent", true)]} />
    <${Chart} class="span-3" title="Slots" times=${times} format=${short} top=${4}
      lines=${[line("taken", series.occupied, "--accent", true), line("in all", series.slots, "--text-3")]} />
    <${Chart} class="span-3" title="Tasks" times=${times} format=${short} top=${4}
      lines=${[line("running", series.running, "--accent", true), line("queued", series.queued, "--warn")]} />
  `;
}

const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const short = (value) => (value === null ? "–" : COMPACT.format(value));
