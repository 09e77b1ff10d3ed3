// The lines of a log as far as a page keeps them: the last ones, however long the log is.
import { Painter, textOf } from "./ansi.js";

/** Lines that are kept, and characters of them all; the oldest chunk goes when it is more. */
export const LINES_MAX = 10_000;
export const CHARS_MAX = 4 * 1024 * 1024;

/** Characters of one line that are shown; the rest is counted. */
export const LINE_CHARS_MAX = 4_096;

/** Lines of a chunk, which is drawn and dropped as one. */
export const CHUNK_LINES = 200;

/** Decodes, cuts and paints what arrives, piece by piece. */
export class LogLines {
  /** `{first, lines, chars}`: `first` is the number of the first line, from 1. */
  chunks = [];
  /** Lines and characters that have gone. */
  dropped = { lines: 0, chars: 0 };
  /** Grows with each change. */
  version = 0;

  #decoder = new TextDecoder("utf-8");
  #painter = new Painter();
  #chars = 0;
  #lines = 0;
  /** The line that has no end yet: what is kept of it, and how many characters are not. */
  #open = "";
  #beyond = 0;

  /** Take in bytes. */
  feed(bytes) {
    this.#take(this.#decoder.decode(bytes, { stream: true }));
  }

  /** The log is over: its last line may have no end. */
  end() {
    this.#take(this.#decoder.decode());
    if (this.#open !== "" || this.#beyond > 0) this.#close();
    this.version += 1;
  }

  /** The line that is being written, painted; "" if there is none. */
  get openLine() {
    // Painted as if it were the last: its colours are not yet those of the lines to come.
    return this.#open === "" ? "" : new Painter().paint(cut(lastShown(this.#open), this.#beyond));
  }

  /** How many lines are kept. */
  get lines() {
    return this.#lines;
  }

  #take(text) {
    if (text === "") return;
    let at = 0;
    for (let stop = text.indexOf("\n"); stop >= 0; stop = text.indexOf("\n", at)) {
      this.#extend(text.slice(at, stop));
      this.#close();
      at = stop + 1;
    }
    this.#extend(text.slice(at));
    this.version += 1;
  }

  #extend(part) {
    const room = 2 * LINE_CHARS_MAX - this.#open.length;
    if (part.length <= room) {
      this.#open += part;
      return;
    }
    // A progress bar that is drawn over and over is one line: the last drawing counts.
    const again = part.lastIndexOf("\r");
    if (again >= 0 && again < part.length - 1) {
      this.#open = "";
      this.#beyond = 0;
      this.#extend(part.slice(again + 1));
      return;
    }
    this.#open += part.slice(0, Math.max(0, room));
    this.#beyond += part.length - Math.max(0, room);
  }

  #close() {
    const painted = this.#painter.paint(cut(lastShown(this.#open), this.#beyond));
    this.#open = "";
    this.#beyond = 0;
    let chunk = this.chunks.at(-1);
    if (chunk === undefined || chunk.lines.length >= CHUNK_LINES) {
      chunk = { first: this.dropped.lines + this.#lines + 1, lines: [], chars: 0 };
      this.chunks.push(chunk);
    }
    const chars = textOf(painted).length + 1;
    chunk.lines.push(painted);
    chunk.chars += chars;
    this.#chars += chars;
    this.#lines += 1;
    while (this.#lines > LINES_MAX || this.#chars > CHARS_MAX) this.#drop();
  }

  #drop() {
    const gone = this.chunks.shift();
    this.#lines -= gone.lines.length;
    this.#chars -= gone.chars;
    this.dropped.lines += gone.lines.length;
    this.dropped.chars += gone.chars;
  }
}

/** What a terminal would show of a line in which carriage returns draw over what was there. */
function lastShown(line) {
  const text = line.endsWith("\r") ? line.slice(0, -1) : line;
  return text.slice(text.lastIndexOf("\r") + 1);
}

function cut(line, beyond) {
  const more = Math.max(0, line.length - LINE_CHARS_MAX) + beyond;
  if (more === 0) return line;
  return `${line.slice(0, LINE_CHARS_MAX)}\x1b[0m … ${more.toLocaleString("en")} more characters`;
}
