// Numbers and times as people read them. All take and give plain values; null is a dash.

const NONE = "–";
const COUNT = new Intl.NumberFormat("en");
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY_CLOCK = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
});
const FULL = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });

/** 12,345 */
export const count = (value) => (value === null || value === undefined ? NONE : COUNT.format(value));

/** `plural(1, "job")` is "1 job", `plural(2, "job")` "2 jobs". */
export const plural = (value, noun, nouns = `${noun}s`) =>
  `${count(value)} ${value === 1 ? noun : nouns}`;

/** A rate or a measure: three digits that matter, 0.25, 8.1, 12.3, 1,234. */
export function measure(value) {
  if (value === null || value === undefined) return NONE;
  if (value === 0) return "0";
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return COUNT.format(Number(value.toFixed(digits)));
}

/** 75% of a share between 0 and 1. */
export const percent = (share) =>
  share === null || share === undefined ? NONE : `${Math.round(share * 100)}%`;

/** A length of time in its two largest units: 0.8 s, 12 s, 4 min 5 s, 3 h 20 min, 2 d 4 h. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  if (seconds < 1) return `${Math.max(0, Math.round(seconds * 1000))} ms`;
  if (seconds < 10) return `${Number(seconds.toFixed(1))} s`;
  return inUnits(Math.round(seconds));
}

/** How long ago, in whole seconds and one unit from an hour on: 3 s ago. */
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return NONE;
  return seconds < 1 ? "now" : `${inUnits(Math.floor(seconds))} ago`;
}

function inUnits(seconds) {
  if (seconds < 60) return `${seconds} s`;
  const [unit, size, lesser, small] =
    seconds < 3_600 ? ["min", 60, "s", 1]
    : seconds < 86_400 ? ["h", 3_600, "min", 60]
    : ["d", 86_400, "h", 3_600];
  const rest = Math.floor((seconds % size) / small);
  return `${Math.floor(seconds / size)} ${unit}${rest ? ` ${rest} ${lesser}` : ""}`;
}

/** 12:03:05 */
export const clock = (epoch_s) => (epoch_s === null ? NONE : CLOCK.format(epoch_s * 1000));

/** 12:03:05, or 4 Mar, 12:03 if that was not within a day of `now_s`. */
export const moment = (epoch_s, now_s) =>
  Math.abs(now_s - epoch_s) < 86_400 ? clock(epoch_s) : DAY_CLOCK.format(epoch_s * 1000);

/** The whole of it, with the time zone: for titles. */
export const full = (epoch_s) => FULL.format(epoch_s * 1000);

const SIZES = ["B", "KiB", "MiB", "GiB", "TiB"];

/** 1.5 MiB */
export function bytes(value) {
  if (value === null || value === undefined) return NONE;
  let size = value;
  let unit = 0;
  while (size >= 1024 && unit < SIZES.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${measure(size)} ${SIZES[unit]}`;
}
