// The public API, asked with the session's cookie. Data, or an ApiError with a sentence to show.
import { useCallback, useEffect, useRef, useState } from "./html.js";

/** Where the API is: beside the pages, whatever path a proxy has put them under. */
const ROOT = new URL("../api/v1/", import.meta.url);

/** Why a request has no answer: `sentence` for people, `code` for programs. */
export class ApiError extends Error {
  /**
   * `status` is 0 when nobody answered. `field` names the part of the request that was wrong, if
   * one was. `facts` is the whole body of the answer.
   */
  constructor({ sentence, code, field = null, status = 0, facts = {} }) {
    super(sentence);
    this.name = "ApiError";
    this.sentence = sentence;
    this.code = code;
    this.field = field;
    this.status = status;
    this.facts = facts;
  }
}

let onNoSession = () => {};

/** Call `listener` whenever an answer says that this browser is not signed in. */
export function whenSignedOut(listener) {
  onNoSession = listener;
}

/** The address of a path below /api/v1, for links: `address("jobs/4/log", { stream: "stdout" })`. */
export function address(path, query = {}) {
  const url = new URL(path.replace(/^\//, ""), ROOT);
  for (const [name, value] of Object.entries(query)) {
    if (value === null || value === undefined || value === "") continue;
    for (const one of Array.isArray(value) ? value : [value]) url.searchParams.append(name, one);
  }
  return url;
}

export const get = (path, query, options) => ask("GET", path, { query, ...options });
export const post = (path, body, options) => ask("POST", path, { body: body ?? {}, ...options });
export const put = (path, body, options) => ask("PUT", path, { body, ...options });
export const del = (path, query, options) => ask("DELETE", path, { query, ...options });

/** As `get`, but the answer itself: for logs, which are no JSON. */
export async function getRaw(path, query, { signal } = {}) {
  return refusedOr(await fetched("GET", path, { query, signal }));
}

async function ask(method, path, { query, body, signal } = {}) {
  const answer = refusedOr(await fetched(method, path, { query, body, signal }));
  return parsed(await answer, path);
}

async function fetched(method, path, { query, body, signal }) {
  const request = { method, signal, credentials: "same-origin", headers: {} };
  if (body !== undefined) {
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  try {
    return await fetch(address(path, query), request);
  } catch (error) {
    throw error.name === "AbortError" ? new ApiError(ABORTED) : new ApiError(UNREACHABLE);
  }
}

const ABORTED = { sentence: "The request was given up.", code: "aborted" };
const UNREACHABLE = {
  sentence: "The scheduler can't be reached: is it running, and the network there?",
  code: "unreachable",
};

async function refusedOr(answer) {
  if (answer.ok) return answer;
  const facts = await parsed(answer, answer.url).catch(() => ({}));
  if (answer.status === 401) onNoSession();
  throw new ApiError({
    sentence: facts.error ?? `The scheduler answered ${answer.status} and said nothing about it.`,
    code: facts.code ?? "no_reason",
    field: facts.field ?? null,
    status: answer.status,
    facts,
  });
}

async function parsed(answer, path) {
  const text = await answer.text().catch(() => {
    throw new ApiError(UNREACHABLE);
  });
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiError({
      sentence: `What came for ${path} is no JSON: does something else answer at this address?`,
      code: "no_json",
      status: answer.status,
    });
  }
}

/**
 * What a GET answers, kept fresh by whoever calls `reload()`: `{data, error, loading, reload}`.
 *
 * With `path` null nothing is asked. While it is asked again the last data stay; another path or
 * query starts from nothing. One request at a time: reloads in between are one reload after it.
 */
export function useResource(path, query) {
  const key = path === null ? null : address(path, query).href;
  const [state, setState] = useState({ key: null, data: null, error: null });
  const asking = useRef(null);

  const reload = useCallback(async () => {
    if (key === null) return;
    if (asking.current?.key === key) {
      asking.current.again = true;
      return;
    }
    asking.current?.controller.abort();
    const mine = { key, again: false, controller: new AbortController() };
    asking.current = mine;
    do {
      mine.again = false;
      const next = await settled(path, query, mine.controller.signal);
      if (asking.current !== mine) return; // another question came first
      setState((old) => ({ key, data: next.data ?? keptData(old, key), error: next.error }));
    } while (mine.again);
    asking.current = null;
  }, [key]);

  useEffect(() => {
    reload();
    return () => {
      asking.current?.controller.abort();
      asking.current = null;
    };
  }, [key]);

  const current = state.key === key ? state : { data: null, error: null };
  const loading = key !== null && current.data === null && current.error === null;
  return { data: current.data, error: current.error, loading, reload };
}

const keptData = (old, key) => (old.key === key ? old.data : null);

async function settled(path, query, signal) {
  try {
    return { data: await get(path, query, { signal }), error: null };
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return { data: null, error };
  }
}
