// A command line cut into words as a POSIX shell would, and words written as a command line.
/** What a shell would do more than cut into words; dtask runs no shell. */
const SHELL_SIGNS = new Map([
  ["|", "a pipe"],
  ["&", "a command in the background"],
  [";", "several commands"],
  ["<", "a redirection"],
  [">", "a redirection"],
  ["$", "a variable"],
  ["`", "the output of a command"],
  ["*", "a pattern of file names"],
  ["?", "a pattern of file names"],
]);

/**
 * `{words, error, signs}`: the words; why the line can't be cut, or null; and what in it only a
 * shell would understand, in words, each once.
 */
export function wordsOf(line) {
  const words = [];
  const signs = new Set();
  let word = null;
  let at = 0;
  while (at < line.length) {
    const char = line[at];
    if (char === "'" || char === '"') {
      const [text, end] = quoted(line, at, signs);
      if (end < 0) {
        return { words, signs: [...signs], error: `A quote ${char} is opened and never closed.` };
      }
      word = (word ?? "") + text;
      at = end;
    } else if (char === "\\") {
      if (at + 1 === line.length) {
        return { words, signs: [...signs], error: "A backslash stands at the end, before nothing." };
      }
      if (line[at + 1] !== "\n") word = (word ?? "") + line[at + 1];
      at += 2;
    } else if (/\s/.test(char)) {
      if (word !== null) words.push(word);
      word = null;
      at += 1;
    } else {
      if (SHELL_SIGNS.has(char)) signs.add(SHELL_SIGNS.get(char));
      word = (word ?? "") + char;
      at += 1;
    }
  }
  if (word !== null) words.push(word);
  return { words, signs: [...signs], error: null };
}

/** The text within the quotes that begin at `at`, and where it goes on; -1: they never end. */
function quoted(line, at, signs) {
  const quote = line[at];
  let text = "";
  for (let i = at + 1; i < line.length; i += 1) {
    const char = line[i];
    if (char === quote) return [text, i + 1];
    if (quote === '"' && char === "\\" && '$`"\\\n'.includes(line[i + 1] ?? " ")) {
      i += 1;
      if (line[i] !== "\n") text += line[i];
    } else {
      if (quote === '"' && (char === "$" || char === "`")) signs.add(SHELL_SIGNS.get(char));
      text += char;
    }
  }
  return [text, -1];
}

/** The words as a line that `wordsOf` cuts into the same words. */
export function lineOf(words) {
  return words.map(quotedWord).join(" ");
}

function quotedWord(word) {
  if (/^[\w@%+=:,./{}-]+$/.test(word)) return word;
  return `'${word.replaceAll("'", "'\\''")}'`;
}
