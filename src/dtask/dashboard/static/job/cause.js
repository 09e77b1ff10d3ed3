// Why something did not succeed, in a few words.
import { html } from "../html.js";

const WORDS = {
  timeout: "ran too long",
  start_failed: "could not be started",
  worker_failed: "its worker failed",
  result_too_large: "result too large",
  lost: "worker lost",
  queue_timeout: "queued too long",
  stopped: "stopped",
  returned: "given back by its worker",
  upstream: "a need did not succeed",
};

/** `exit code 3`, `signal 9 (SIGKILL)`, `ran too long`; "" if there is nothing to say. */
export function causeText({ state, cause, exit_code: code }) {
  if (cause === "exit") return exitText(code);
  if (state === "cancelled" && (cause === "stopped" || cause === "lost")) return ""; // the state says it
  return cause ? (WORDS[cause] ?? cause) : "";
}

/** The word for how an attempt stands: `lost` and `returned` were cancelled by nobody. */
export function shownState({ state, cause }) {
  return state === "cancelled" && (cause === "lost" || cause === "returned") ? cause : state;
}

/** `exit code 3`, or the signal that ended it. */
export function exitText(code) {
  if (code === undefined || code === null) return "exit";
  if (code >= 0) return `exit code ${code}`;
  const name = SIGNALS[-code];
  return `signal ${-code}${name ? ` (${name})` : ""}`;
}

const SIGNALS = { 1: "SIGHUP", 2: "SIGINT", 3: "SIGQUIT", 4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL", 11: "SIGSEGV", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 24: "SIGXCPU", 25: "SIGXFSZ" };

/** The same beside a state, with the error as its title. */
export function CauseText({ row }) {
  const text = causeText(row);
  return text && row.state !== "succeeded" && html`<span class="dim" title=${row.error}>${text}</span>`;
}
