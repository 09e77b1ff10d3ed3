// What is around every page: where to go, and whether what is shown is the present.
import { del } from "./api.js";
import { clock } from "./formats.js";
import { html, useEffect, useErrorBoundary, useReducer, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { look, signedOut, tellTabs, useSelected } from "./live.js";
import { ErrorNote, Loading } from "./parts.js";
import { Link, Page, match, useRoute } from "./router.js";
import { ROUTES } from "./routes.js";

/** How long the news that all is well again stays. */
const NEWS_MS = 6_000;

export function Frame() {
  const { path, query } = useRoute();
  const route = match(ROUTES, path);
  const stale = useSelected((live) => live.state === "stale");
  const main = useRef();
  return html`
    <div class="frame">
      <button type="button" class="skip" onClick=${() => main.current.focus()}>Skip to the page</button>
      <header class="side">
        <${Link} to="/" class="brand"><img src="icon.svg" alt="" width="22" height="22" />dtask<//>
        <${Navigation} path=${route?.under ?? path} />
        <${Standing} />
      </header>
      <div class="content">
        <${Banner} />
        <main id="main" tabindex="-1" ref=${main} class=${stale ? "past" : ""}>
          ${route
            ? html`<${Loaded} key=${path} route=${route} query=${query} />`
            : html`<${Page} title="No such page"><p>Nothing is at this address. <${Link} to="/">Go to the overview<//>.</p><//>`}
        </main>
      </div>
    </div>
  `;
}

function Navigation({ path }) {
  return html`
    <nav class="navigation" aria-label="Pages">
      <ul>
        ${ROUTES.filter((route) => route.name).map((route) => html`
          <li key=${route.path}>
            <${Link} to=${route.path} aria-current=${route.path === path ? "page" : undefined}>
              <${Icon} name=${route.icon} /><span>${route.name}</span>
            <//>
          </li>`)}
      </ul>
    </nav>
  `;
}

/** At the foot of the navigation: is it live, which version, light or dark, sign out. */
function Standing() {
  const [unheard, setUnheard] = useState(null);
  const state = useSelected((live) => live.state);
  const version = useSelected((live) => live.version);
  const words = { live: "Live", connecting: "Connecting", stale: "Not live" };
  return html`
    <div class="standing">
      <p class="pulse ${state}"><span class="dot" aria-hidden="true"></span>${words[state]}
        ${version && html`<span class="version">v${version}</span>`}</p>
      <div class="standing-buttons">
        <${ThemeButton} />
        <button type="button" class="icon-button" onClick=${() => signOut().then(() => setUnheard(null), setUnheard)} title="Sign out" aria-label="Sign out">
          <${Icon} name="leave" /></button>
      </div>
      ${unheard && html`<p class="still-in" role="alert">Still signed in: ${unheard.sentence}</p>`}
    </div>
  `;
}

export function ThemeButton() {
  const [, redraw] = useReducer((number) => number + 1, 0);
  useEffect(() => {
    addEventListener("themechange", redraw);
    return () => removeEventListener("themechange", redraw);
  }, []);
  const other = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  return html`
    <button type="button" class="icon-button" onClick=${() => window.dtaskTheme.toggle()}
            title="Use the ${other} theme" aria-label="Use the ${other} theme"><${Icon} name=${other} /></button>
  `;
}

async function signOut() {
  await del("session");
  signedOut();
  tellTabs();
}

/** The one thing that is read out by itself: the connection is lost, or is back. */
function Banner() {
  const state = useSelected((live) => live.state);
  const warmingUp = useSelected((live) => live.totals?.warming_up);
  const trying = useSelected((live) => live.trying);
  const news = useNews(state);
  let text = null; // what is lost comes before what is well again
  if (state === "stale") text = `Connection lost. Showing the state of ${clock(look().at)}, trying again.`;
  else if (state === "connecting" && trying) text = "The scheduler does not answer, trying again.";
  else if (state === "live" && warmingUp) text = `${news ?? "The scheduler has just started."} Some workers may not have reported yet.`;
  else if (state === "live") text = news;
  const tone = state !== "live" ? "lost" : warmingUp ? "warming" : "back";
  return html`<div class="banner-place" role="status" aria-live="polite">
    ${text && html`<p class="banner ${tone}">${text}</p>`}
  </div>`;
}

/** What to say for a while after the connection came back. */
function useNews(state) {
  const [news, setNews] = useState(null);
  const before = useRef({ state, restarts: look().restarts });
  useEffect(() => {
    const restarted = look().restarts !== before.current.restarts;
    if (state === "live" && before.current.state === "stale") {
      setNews(restarted ? "Connected again: the scheduler was restarted." : "Connected again.");
    }
    before.current = { state, restarts: look().restarts };
  }, [state]);
  useEffect(() => {
    if (news === null) return undefined;
    const timer = setTimeout(() => setNews(null), NEWS_MS);
    return () => clearTimeout(timer);
  }, [news]);
  return news;
}

/** What could not be loaded is, as soon as a connection that was lost is back. */
function useReloadOnceBack(isUnloaded) {
  const state = useSelected((live) => live.state);
  const wasLost = useRef(false);
  if (state === "stale") wasLost.current = true;
  useEffect(() => {
    if (isUnloaded && state === "live" && wasLost.current) location.reload();
  }, [isUnloaded, state]);
}

/** The page of a route, once its module is here. A page that breaks takes nothing else with it. */
function Loaded({ route, query }) {
  const [page, setPage] = useState(null);
  const [unloaded, setUnloaded] = useState(null);
  const [broken] = useErrorBoundary();
  useEffect(() => {
    route.load().then((component) => setPage(() => component), setUnloaded);
  }, []);
  useReloadOnceBack(unloaded !== null);
  if (unloaded ?? broken) {
    const sentence = unloaded
      ? "This page could not be loaded from the scheduler."
      : `This page broke: ${broken.message}`;
    return html`<${Page} title=${route.name ?? "dtask"}>
      <${ErrorNote} error=${{ sentence }} retry=${() => location.reload()} /><//>`;
  }
  if (page === null) return html`<${Loading} what="Loading the page" />`;
  return html`<${page} params=${route.params} query=${query} />`;
}
