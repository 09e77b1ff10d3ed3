// Names in a picture, where nothing wraps: as much of one as there is room for.
const pen = document.createElement("canvas").getContext("2d");

/**
 * `text` if it fits into so many pixels, or its beginning and its end. `font` is a weight and a size, such as
 * "600 13px".
 */
export function fitted(text, room_px, font) {
  pen.font = `${font} ${getComputedStyle(document.body).fontFamily}`;
  const fits = (shown) => pen.measureText(shown).width <= room_px;
  if (fits(text)) return text;
  let most = Math.min(text.length, Math.floor(room_px / 3));
  while (most > 1 && !fits(shortened(text, most))) most -= 1;
  return shortened(text, most);
}

function shortened(text, most) {
  const head = Math.ceil(most / 2);
  return `${text.slice(0, head)}…${text.slice(text.length - (most - head))}`;
}
