// The form of one command as the body of a submit.
import { FieldError, arrayOf, jobsOf, listOf, numberOf, secondsOf, variablesOf, wholeOf } from "./fields.js";
import { wordsOf } from "./words.js";

/** How each field of the form is read; those that are left empty are left out. */
const READERS = {
  name: (_field, text) => text,
  queue: (_field, text) => text,
  priority: (field, text) => wholeOf(field, text, -100, 100),
  tags: (_field, text) => listOf(text),
  array: arrayOf,
  timeout_s: secondsOf,
  max_queue_s: secondsOf,
  env: variablesOf,
  cwd: (_field, text) => text,
  cpus: numberOf,
  memory_mb: (field, text) => wholeOf(field, text, 1, 16_777_216),
  after: jobsOf,
};

const RETRY_READERS = {
  max: (field, text) => wholeOf(field, text, 0, 1_000),
  backoff_s: secondsOf,
};

const NAME_CHARS_MAX = 200;

/** `{body, problems}`: `values` are the texts of the fields by name, problems a Map of sentences by field. */
export function bodyOf(values) {
  const problems = new Map();
  const body = { name: shortened(values.command ?? "") };
  const take = (into, name, read) => {
    try {
      into[name] = read();
    } catch (problem) {
      if (!(problem instanceof FieldError)) throw problem;
      problems.set(problem.field, problem.message);
    }
  };
  take(body, "command", () => commandOf(values));
  for (const [name, read] of Object.entries(READERS)) {
    const text = values[name]?.trim() ?? "";
    if (text !== "") take(body, name, () => read(name, name === "env" || name === "array" ? values[name] : text));
  }
  const retry = {};
  for (const [name, read] of Object.entries(RETRY_READERS)) {
    const field = `retry.${name}`;
    const text = values[field]?.trim() ?? "";
    if (text !== "") take(retry, name, () => read(field, text));
  }
  if (Object.keys(retry).length > 0) body.retry = retry;
  return { body, problems };
}

function commandOf({ command = "", shell }) {
  if (command.trim() === "") throw new FieldError("command", "Expected a command, such as: python train.py --epochs 3");
  if (shell) return ["sh", "-c", command];
  const { words, error } = wordsOf(command);
  if (error !== null) throw new FieldError("command", error);
  return words;
}

/** A job without a name has that of its command, as `dtask submit` does it. */
function shortened(command) {
  return command.trim().replace(/\s+/g, " ").slice(0, NAME_CHARS_MAX);
}

/** What an error of the API says, without the name that the field has there. */
export function sentenceOf({ sentence, field }) {
  return field !== null && sentence.startsWith(`${field}: `) ? sentence.slice(field.length + 2) : sentence;
}

/** The field of the form that an error of the API is about, or null. */
export function fieldOf(error) {
  const field = (error.field ?? "").replace(/^tasks\.main\./, "");
  if (error.code === "unknown_queue" || error.code === "queue_full") return "queue";
  if (error.code === "no_job") return "after";
  const names = ["command", ...Object.keys(READERS), ...Object.keys(RETRY_READERS).map((name) => `retry.${name}`)];
  return names.find((name) => field === name || field.startsWith(`${name}.`) || field.startsWith(`${name}[`)) ?? null;
}
