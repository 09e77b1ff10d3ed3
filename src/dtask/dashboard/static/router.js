// Pages are hashes: #/jobs/42?state=failed. A page's heading takes the focus when one comes.
import { html, useEffect, useReducer, useRef } from "./html.js";

const listeners = new Set();
let moves = 0; // navigations since the start; the first page takes no focus

/** Where we are: `{path, query}`, the query as URLSearchParams. */
export function here() {
  const [path, query = ""] = location.hash.replace(/^#/, "").split("?", 2);
  return { path: path.startsWith("/") ? path : "/", query: new URLSearchParams(query) };
}

/** The hash of a page: `href("/jobs", { state: "failed" })`. Empty values are left out. */
export function href(path, query = {}) {
  const kept = Object.entries(query).filter(([, value]) => value || value === 0);
  const text = new URLSearchParams(kept).toString();
  return `#${path}${text && `?${text}`}`;
}

/** The path of one thing, its name escaped: `pathOf("workers", "gpu/1")`. */
export const pathOf = (...parts) => `/${parts.map((part) => encodeURIComponent(part)).join("/")}`;

/** Go to a page. `replace` leaves no entry to come back to. */
export function navigate(path, query = {}, { replace = false } = {}) {
  const target = href(path, query);
  if (location.hash === target) return;
  history[replace ? "replaceState" : "pushState"](null, "", target);
  moved();
}

/**
 * Change the query of this page: in place, for filters, which are part of the address; or with an
 * entry to come back to, for the next page of a list.
 */
export function setQuery(changes, { replace = true } = {}) {
  const { path, query } = here();
  navigate(path, { ...Object.fromEntries(query), ...changes }, { replace });
}

function moved() {
  for (const listener of [...listeners]) listener();
}

let lastPath = here().path;
addEventListener("popstate", moved);
addEventListener("hashchange", moved);
listeners.add(() => {
  const { path } = here();
  if (path === lastPath) return;
  lastPath = path;
  moves += 1;
  scrollTo(0, 0);
});

/** The route of `routes` that the address names, with `params`; undefined if none does. */
export function match(routes, path) {
  for (const route of routes) {
    const params = paramsOf(route.path, path);
    if (params) return { ...route, params };
  }
  return undefined;
}

function paramsOf(pattern, path) {
  const wanted = pattern.split("/");
  const given = path.replace(/(.)\/$/, "$1").split("/");
  if (wanted.length !== given.length) return null;
  const params = {};
  for (const [index, part] of wanted.entries()) {
    if (part.startsWith(":")) params[part.slice(1)] = unescaped(given[index]);
    else if (part !== given[index]) return null;
  }
  return params;
}

function unescaped(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // a stray % that somebody typed
  }
}

/** `here()`, and the component is drawn again when it changes. */
export function useRoute() {
  const [, redraw] = useReducer((number) => number + 1, 0);
  useEffect(() => {
    listeners.add(redraw);
    return () => listeners.delete(redraw);
  }, []);
  return here();
}

/** A link to a page. A plain anchor: it opens in a new tab like any other. */
export function Link({ to, query, children, ...rest }) {
  return html`<a href=${href(to, query)} ...${rest}>${children}</a>`;
}

/**
 * A page: its heading, what can be done there (`actions`), and the rest. `title` is the heading and
 * the window's title; `lead` stands below it.
 */
export function Page({ title, above, lead, actions, children }) {
  const heading = useRef();
  const arrived = useRef(moves);
  useEffect(() => {
    document.title = `${title} · dtask`;
  }, [title]);
  useEffect(() => {
    if (arrived.current > 0) heading.current.focus({ preventScroll: true });
  }, []);
  return html`
    <header class="page-head">
      <div class="page-title">
        ${above && html`<p class="page-above">${above}</p>`}
        <h1 tabindex="-1" ref=${heading}>${title}</h1>
        ${lead && html`<div class="page-lead">${lead}</div>`}
      </div>
      ${actions && html`<div class="page-actions">${actions}</div>`}
    </header>
    ${children}
  `;
}
