// A job file, YAML or JSON, as the body of a submit; and the line of each field in it.
//
// Read as `dtask.cli.jobfile` does: what is text, such as the words of a command, is the text as it
// was written.
import { LineCounter, isAlias, isMap, isScalar, isSeq, parseDocument } from "../vendor/yaml/index.js";

export const FILE_CHARS_MAX = 16 * 1024 * 1024;
export const DEPTH_MAX = 20;
/** Values in a file, what aliases repeat included. */
export const VALUES_MAX = 2_500_000;

/** Fields of a task whose scalars are texts as they were written. */
const TEXTS = new Set(["command", "array", "env", "tags"]);
const DIGEST = /^sha256:[0-9a-f]{64}$/;

/** What is wrong in a file: a sentence and its line, from 1, or null. */
export class FileError extends Error {
  constructor(sentence, line) {
    super(sentence);
    this.line = line;
  }
}

/** `{body, lineOf}`: the body, and `lineOf(error)` for an error of the API. Throws FileError. */
export function readJobFile(text) {
  if (text.length > FILE_CHARS_MAX) {
    throw new FileError(`The file has ${text.length} characters: expected at most ${FILE_CHARS_MAX}.`, null);
  }
  const counter = new LineCounter();
  const document = parseDocument(text, { lineCounter: counter, prettyErrors: false, merge: false });
  const lineAt = (offset) => counter.linePos(offset).line;
  const [error] = document.errors;
  if (error !== undefined) throw new FileError(said(error), lineAt(error.pos[0]));
  const reader = new Reader(document, lineAt);
  const body = document.contents === null ? null : reader.value(document.contents, [], 0);
  if (body === null || typeof body !== "object" || Array.isArray(body) || Object.keys(body).length === 0) {
    throw new FileError("Expected the fields of a job, such as `command: [echo, hi]` or `tasks:`.", 1);
  }
  checkFiles(body, (path) => placeOf(document.contents, path, lineAt));
  return { body, lineOf: (answer) => lineOfError(document.contents, answer, lineAt) };
}

/** A sentence of the parser as one of ours. */
function said(error) {
  const sentence = error.message.replace(/\s+/g, " ").trim();
  return error.code === "DUPLICATE_KEY" ? "This stands there twice: expected it once." : sentence;
}

class Reader {
  #document;
  #lineAt;
  #count = 0;

  constructor(document, lineAt) {
    this.#document = document;
    this.#lineAt = lineAt;
  }

  value(node, path, depth) {
    this.#count += 1;
    if (depth > DEPTH_MAX) this.#fail(node, `This is more than ${DEPTH_MAX} levels deep.`);
    if (this.#count > VALUES_MAX) this.#fail(node, `There are more than ${VALUES_MAX} values.`);
    if (isAlias(node)) {
      const meant = node.resolve(this.#document);
      if (meant === undefined) this.#fail(node, `There is no anchor &${node.source} above.`);
      return this.value(meant, path, depth + 1);
    }
    if (isMap(node)) return this.#mapping(node, path, depth);
    if (isSeq(node)) return node.items.map((item, i) => this.value(item, [...path, String(i)], depth + 1));
    if (isScalar(node)) return isText(path) && !isNothing(node) ? (node.source ?? String(node.value)) : node.value;
    return null;
  }

  #mapping(node, path, depth) {
    const found = new Map();
    const merged = new Map();
    for (const { key, value } of node.items) {
      if (!isScalar(key)) this.#fail(node, "A name can't be a list or a mapping.");
      const name = key.source ?? String(key.value);
      if (name === "<<") {
        for (const part of isSeq(value) ? value.items : [value]) {
          for (const [inner, meant] of Object.entries(this.value(part, path, depth + 1) ?? {})) merged.set(inner, meant);
        }
      } else {
        found.set(name, value === null ? null : this.value(value, [...path, name], depth + 1));
      }
    }
    // Not by assignment: `__proto__` is a name like any other.
    return Object.fromEntries([...merged, ...found]);
  }

  #fail(node, sentence) {
    throw new FileError(sentence, node.range ? this.#lineAt(node.range[0]) : null);
  }
}

/** Whether a scalar here is the text that was written: a word, an item, a value of `env`. */
function isText(path) {
  const inner = path[0] === "tasks" ? path.slice(2) : path;
  return inner.length === 2 && TEXTS.has(inner[0]);
}

function isNothing(node) {
  return node.value === null && (node.source ?? "") === "";
}

/** Throws FileError if a task brings a file that only a program could read. */
function checkFiles(body, lineOf) {
  const tasks = body.tasks !== null && typeof body.tasks === "object" ? Object.entries(body.tasks) : [];
  const all = [[[], body], ...tasks.map(([name, task]) => [["tasks", name], task])];
  for (const [within, task] of all) {
    if (task === null || typeof task !== "object") continue;
    const files = Array.isArray(task.files) ? task.files : Object.values(task.files ?? {});
    const named = [...files.map((file) => ["files", file]), ["stdin", task.stdin]];
    for (const [field, file] of named) {
      if (typeof file === "string" && !DIGEST.test(file)) {
        const place = [...within, field];
        const how = "a page can't read it from your disk: expected sha256:HEX of a blob, or use `dtask submit FILE`";
        throw new FileError(`${place.join(".")}: ${file} is a path, and ${how}.`, lineOf(place));
      }
    }
  }
}

/** The line that an error of the API is about, or null. */
function lineOfError(root, answer, lineAt) {
  if (Array.isArray(answer.cycle) && answer.cycle.length > 0) {
    return placeOf(root, ["tasks", answer.cycle[0], "needs"], lineAt);
  }
  if (typeof answer.field !== "string" || answer.field === "$") return null;
  return placeOf(root, pathOf(root, answer.field), lineAt);
}

/** `tasks.a.b.needs[0]` as a path: names of tasks may have dots, so the longest that is there counts. */
function pathOf(root, field) {
  const path = [];
  let node = root;
  let rest = field;
  while (rest !== "") {
    const names = isMap(node) ? node.items.map(({ key }) => nameOf(key)) : [];
    const fitting = names.filter((name) => rest === name || rest.startsWith(`${name}.`) || rest.startsWith(`${name}[`));
    const longest = fitting.sort((a, b) => b.length - a.length)[0];
    const part = longest ?? /^\[?([^.[\]]*)\]?/.exec(rest)[1];
    const taken = longest?.length ?? /^\[?[^.[\]]*\]?/.exec(rest)[0].length;
    path.push(part);
    node = childOf(node, part)?.value;
    rest = rest.slice(Math.max(1, taken)).replace(/^\./, "");
  }
  return path;
}

/** The line of the value at this path, or of the closest around it; null if there is none. */
function placeOf(root, path, lineAt) {
  let node = root;
  let line = null;
  for (const part of path) {
    const child = childOf(node, part);
    if (child === undefined) break;
    line = lineAt(child.offset);
    node = child.value;
  }
  return line ?? (root?.range ? lineAt(root.range[0]) : null);
}

function childOf(node, part) {
  if (isMap(node)) {
    const pair = node.items.find(({ key }) => nameOf(key) === part);
    return pair?.key?.range ? { value: pair.value, offset: pair.key.range[0] } : undefined;
  }
  if (isSeq(node)) {
    const item = node.items[Number(part)];
    return item?.range ? { value: item, offset: item.range[0] } : undefined;
  }
  return undefined;
}

function nameOf(key) {
  return isScalar(key) ? (key.source ?? String(key.value)) : "";
}
