// Finding text in the lines that a page keeps of a log.
import { textOf } from "./ansi.js";

/** Lines that are found at most; with more, a search says nothing that a filter wouldn't. */
export const FOUND_MAX = 5_000;

/** The numbers of the lines that hold `text`, whatever their case: `{lines, more}`. */
export function found(chunks, text) {
  const wanted = text.toLowerCase();
  const lines = [];
  for (const chunk of chunks) {
    for (const [at, painted] of chunk.lines.entries()) {
      if (!textOf(painted).toLowerCase().includes(wanted)) continue;
      if (lines.length === FOUND_MAX) return { lines, more: true };
      lines.push(chunk.first + at);
    }
  }
  return { lines, more: false };
}

/** A painted line as pieces `[text, classes, isFound]`, cut where `wanted` (lower case) stands. */
export function marked(painted, wanted) {
  const pieces = typeof painted === "string" ? [[painted, ""]] : painted;
  const whole = textOf(painted).toLowerCase();
  const cuts = [];
  for (let at = whole.indexOf(wanted); at >= 0; at = whole.indexOf(wanted, at + wanted.length)) {
    cuts.push([at, at + wanted.length]);
  }
  if (cuts.length === 0) return pieces.map(([text, classes]) => [text, classes, false]);
  const cut = [];
  let start = 0;
  for (const [text, classes] of pieces) {
    let at = start;
    const end = start + text.length;
    for (const [from, to] of cuts) {
      if (to <= at || from >= end) continue;
      if (from > at) cut.push([text.slice(at - start, from - start), classes, false]);
      cut.push([text.slice(Math.max(at, from) - start, Math.min(end, to) - start), classes, true]);
      at = Math.min(end, to);
    }
    if (at < end) cut.push([text.slice(at - start), classes, false]);
    start = end;
  }
  return cut;
}
