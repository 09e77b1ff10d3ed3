// What a task wrote, made safe and coloured: colours become classes, all other commands to a
// terminal go, and control characters are shown as what they are.
//
// The grammar is that of `dtask.cli.escapes`, for whole lines.
/** A colour (kept), then all sequences that go: complete ones, and those cut off by the line's end. */
const SEQUENCE = new RegExp(
  [
    "(?:\\x1b\\[|\\x9b)([0-9;:]*)m",
    "(?:\\x1b\\[|\\x9b)[0-?]*[ -/]*(?:[@-~]|(?=[^ -~])|$)",
    "(?:\\x1b[\\]PX^_]|[\\x90\\x98\\x9d\\x9e\\x9f])[^\\x07\\x18\\x1a\\x1b\\x9c]*" +
      "(?:[\\x07\\x18\\x1a\\x9c]|\\x1b\\\\|(?=\\x1b)|$)",
    "\\x1b(?:[ -/]+[0-~]|[0-OQ-WYZ\\\\`-~]|[ -/]*(?=[^ -~])|[ -/]*$)",
  ].join("|"),
  "g",
);

/** Whether a line holds anything but what can be shown as it is. */
// eslint-disable-next-line no-control-regex
const UNUSUAL = /[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]/;
const CONTROLS = new RegExp(UNUSUAL.source, "g");

const PLAIN = Object.freeze({ ink: null, paper: null, bold: false, faint: false, slanted: false, lined: false, struck: false, swapped: false });

/** Paints the lines of one stream; a colour that a line leaves on goes on in the next. */
export class Painter {
  #style = PLAIN;

  /** The line as a string if it is plain, else as pieces `[text, classes]`. */
  paint(line) {
    if (this.#style === PLAIN && !UNUSUAL.test(line)) return line;
    const pieces = [];
    let at = 0;
    for (const found of line.matchAll(SEQUENCE)) {
      this.#put(pieces, line.slice(at, found.index));
      at = found.index + found[0].length;
      if (found[1] !== undefined) this.#style = styled(this.#style, found[1]);
    }
    this.#put(pieces, line.slice(at));
    const only = pieces.length === 1 && pieces[0][1] === "" ? pieces[0][0] : null;
    return pieces.length === 0 ? "" : (only ?? pieces);
  }

  #put(pieces, raw) {
    if (raw === "") return;
    const text = raw.replace(CONTROLS, shown);
    const classes = classesOf(this.#style);
    const last = pieces.at(-1);
    if (last !== undefined && last[1] === classes) last[0] += text;
    else pieces.push([text, classes]);
  }
}

/** The text of a painted line. */
export function textOf(painted) {
  return typeof painted === "string" ? painted : painted.map(([text]) => text).join("");
}

/** A control character as its picture; one that turns the direction of the text as a box. */
function shown(char) {
  const code = char.charCodeAt(0);
  if (code < 0x20) return String.fromCharCode(0x2400 + code);
  return code === 0x7f ? "\u2421" : "\ufffd";
}

function classesOf(style) {
  if (style === PLAIN) return "";
  const { ink, paper } = style.swapped ? { ink: style.paper, paper: style.ink ?? 7 } : style;
  const classes = [];
  // On a coloured ground the text keeps the ink of the page: that can be read on all of them.
  if (paper !== null) classes.push(`ansi-paper-${paper % 8}`);
  else if (ink !== null) classes.push(`ansi-ink-${ink}`);
  for (const name of ["bold", "faint", "slanted", "lined", "struck"]) {
    if (style[name]) classes.push(`ansi-${name}`);
  }
  return classes.join(" ");
}

/** The style after "select graphic rendition" with these values. */
function styled(before, values) {
  const numbers = values.split(/[;:]/).map((part) => (part === "" ? 0 : Number(part)));
  let style = { ...before };
  for (let at = 0; at < numbers.length; at += 1) {
    const number = numbers[at];
    if (number === 0) style = { ...PLAIN };
    else if (number === 38 || number === 48) {
      const [colour, taken] = extended(numbers, at + 1);
      if (colour !== null) style[number === 38 ? "ink" : "paper"] = colour;
      at += taken;
    } else Object.assign(style, MEANINGS.get(number));
  }
  return Object.keys(PLAIN).every((name) => style[name] === PLAIN[name]) ? PLAIN : style;
}

const MEANINGS = new Map([
  [1, { bold: true }],
  [2, { faint: true }],
  [3, { slanted: true }],
  [4, { lined: true }],
  [7, { swapped: true }],
  [9, { struck: true }],
  [22, { bold: false, faint: false }],
  [23, { slanted: false }],
  [24, { lined: false }],
  [27, { swapped: false }],
  [29, { struck: false }],
  [39, { ink: null }],
  [49, { paper: null }],
]);
for (let colour = 0; colour < 8; colour += 1) {
  MEANINGS.set(30 + colour, { ink: colour });
  MEANINGS.set(40 + colour, { paper: colour });
  MEANINGS.set(90 + colour, { ink: colour + 8 });
  MEANINGS.set(100 + colour, { paper: colour + 8 });
}

/** Of `38;5;N` or `38;2;R;G;B`, from the 5 or 2 on: the closest of 16, and how many were taken. */
function extended(numbers, at) {
  if (numbers[at] === 5) {
    const number = numbers[at + 1] ?? 0;
    if (number < 16) return [number, 2];
    if (number >= 232) return [grey((number - 232) * 10 + 8), 2];
    const cube = number - 16;
    const levels = [Math.floor(cube / 36), Math.floor(cube / 6) % 6, cube % 6];
    return [closest(...levels.map((level) => level * 51)), 2];
  }
  if (numbers[at] === 2) return [closest(...numbers.slice(at + 1, at + 4)), 4];
  return [null, 0];
}

/** The one of the 16 colours that is meant by red, green and blue of 0 to 255. */
function closest(red = 0, green = 0, blue = 0) {
  const most = Math.max(red, green, blue);
  const least = Math.min(red, green, blue);
  if (most - least < 40) return grey(most);
  const half = (most + least) / 2;
  const hue = (red > half ? 1 : 0) + (green > half ? 2 : 0) + (blue > half ? 4 : 0);
  return most > 215 ? hue + 8 : hue;
}

function grey(level) {
  if (level < 64) return 0;
  if (level < 150) return 8;
  return level < 220 ? 7 : 15;
}
