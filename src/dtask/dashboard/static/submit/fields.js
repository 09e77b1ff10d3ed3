// What people type into the fields of a form, as what the API takes.

/** What is wrong with a field: its name, and a sentence. */
export class FieldError extends Error {
  constructor(field, sentence) {
    super(sentence);
    this.field = field;
  }
}

const UNITS_S = { "": 1, s: 1, m: 60, h: 3_600, d: 86_400 };

/** `90`, `90s`, `5m`, `1h30m` as seconds. */
export function secondsOf(field, text) {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)\s*([smhd]?)/g)];
  if (parts.length === 0 || parts.map((part) => part[0]).join("").replace(/\s+/g, "") !== text.replace(/\s+/g, "")) {
    throw new FieldError(field, "Expected a duration such as 90, 5m, 2h or 1h30m.");
  }
  return parts.reduce((sum, [, number, unit]) => sum + Number(number) * UNITS_S[unit], 0);
}

/** A whole number between two bounds. */
export function wholeOf(field, text, least, most) {
  const number = Number(text);
  if (!Number.isInteger(number) || number < least || number > most) {
    throw new FieldError(field, `Expected a whole number from ${least} to ${most.toLocaleString("en")}.`);
  }
  return number;
}

/** A number above 0. */
export function numberOf(field, text) {
  const number = Number(text);
  if (!(number > 0)) throw new FieldError(field, "Expected a number above 0.");
  return number;
}

/** `gpu, cuda>=12` as a list. */
export function listOf(text) {
  return text.split(",").map((part) => part.trim()).filter((part) => part !== "");
}

/** Lines of `NAME=value` as an object. */
export function variablesOf(field, text) {
  const variables = new Map();
  for (const [at, line] of text.split("\n").entries()) {
    if (line.trim() === "") continue;
    const equals = line.indexOf("=");
    if (equals < 1) throw new FieldError(field, `Line ${at + 1}: expected NAME=value.`);
    variables.set(line.slice(0, equals).trim(), line.slice(equals + 1));
  }
  return Object.fromEntries(variables);
}

/** A count, or one item a line. */
export function arrayOf(field, text) {
  const lines = text.split("\n").filter((line) => line !== "");
  if (lines.length === 1 && /^\s*\d+\s*$/.test(lines[0])) return wholeOf(field, lines[0], 1, 1_000_000);
  return lines;
}

/** `41, 42` as numbers of jobs. */
export function jobsOf(field, text) {
  return listOf(text).map((part) => {
    if (!/^\d+$/.test(part)) throw new FieldError(field, "Expected numbers of jobs, such as 41, 42.");
    return Number(part);
  });
}
