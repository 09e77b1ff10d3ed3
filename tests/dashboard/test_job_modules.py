"""The parts of the job pages that draw nothing, run in the browser that they are for."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page

from dashboard.site import Site
from dtask.cli import jobfile

ROOT = Path(__file__).resolve().parents[2]

RED, RESET = "\x1b[31m", "\x1b[0m"


@pytest.fixture(scope="module")
def modules(browser: Browser, site: Site) -> Iterator[Page]:
    """A page from which modules can be imported: none of them leaves anything behind."""
    page = browser.new_page()
    page.goto(f"{site.url}/dashboard/")
    yield page
    page.close()


def paint(page: Page, *lines: str) -> list[Any]:
    return page.evaluate(
        """async lines => {
            const { Painter } = await import("/dashboard/job/ansi.js");
            const painter = new Painter();
            return lines.map(line => painter.paint(line));
        }""",
        lines,
    )


def test_colours_become_classes_and_go_on_in_the_next_line(modules: Page) -> None:
    lines = ("plain", f"a {RED}b", f"c{RESET} d", "\x1b[1;38;5;21mblue", "\x1b[0;48;2;0;160;0mx")
    assert paint(modules, *lines) == [
        "plain",
        [["a ", ""], ["b", "ansi-ink-1"]],
        [["c", "ansi-ink-1"], [" d", ""]],
        [["blue", "ansi-ink-12 ansi-bold"]],
        [["x", "ansi-paper-2"]],
    ]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("\x1b]0;a title\x07text", "text"),
        ("\x1b]52;c;cGFzdGU=\x1b\\text", "text"),
        ("\x1b]8;;javascript:alert(1)\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("a\x1b[2J\x1b[1;1H\x1b[?25lb", "ab"),
        ("\x9b31ma\x1b(Bb\x1bPq#0\x1b\\c", None),
        ("cut \x1b[3", "cut "),
        ("cut \x1b]0;never ends", "cut "),
        ("\x00\x01\x08\x7f", "\u2400\u2401\u2408\u2421"),
        ("\x84\u202e\u2066", "\ufffd\ufffd\ufffd"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
    ],
)
def test_whatever_else_a_terminal_would_obey_is_taken_out(
    modules: Page, line: str, shown: str | None
) -> None:
    (painted,) = paint(modules, line)
    if shown is None:
        assert painted == [["abc", "ansi-ink-1"]]
    else:
        assert painted == shown


def lines_of(page: Page, pieces: list[bytes]) -> dict[str, Any]:
    return page.evaluate(
        """async pieces => {
            const { LogLines } = await import("/dashboard/job/log_lines.js");
            const { textOf } = await import("/dashboard/job/ansi.js");
            const log = new LogLines();
            for (const piece of pieces) log.feed(new Uint8Array(piece));
            const open = textOf(log.openLine);
            log.end();
            const texts = log.chunks.flatMap(chunk => chunk.lines.map(textOf));
            return { texts, open, dropped: log.dropped.lines, first: log.chunks[0]?.first };
        }""",
        [list(piece) for piece in pieces],
    )


def test_lines_are_cut_wherever_their_bytes_arrive(modules: Page) -> None:
    text = "one\r\ntwo \u20ac\n10%\r20%\r30%\n\nlast".encode()
    pieces = [text[at : at + 1] for at in range(len(text))]
    found = lines_of(modules, pieces)
    assert found["texts"] == ["one", "two \u20ac", "30%", "", "last"]
    assert found["open"] == "last"


def test_a_line_without_end_and_a_log_without_end_are_bounded(modules: Page) -> None:
    line = modules.evaluate(
        """async () => {
            const { LogLines } = await import("/dashboard/job/log_lines.js");
            const { textOf } = await import("/dashboard/job/ansi.js");
            const log = new LogLines();
            for (let i = 0; i < 32; i += 1) log.feed(new Uint8Array(1024 * 1024).fill(121));
            log.end();
            return textOf(log.chunks[0].lines[0]);
        }"""
    )
    assert len(line) < 5_000
    assert line.endswith("yyy \u2026 33,550,336 more characters")
    many = modules.evaluate(
        """async () => {
            const { LogLines, LINES_MAX } = await import("/dashboard/job/log_lines.js");
            const log = new LogLines();
            const piece = new TextEncoder().encode("a line of it\\n".repeat(1000));
            for (let i = 0; i < 50; i += 1) log.feed(piece);
            return [log.lines <= LINES_MAX, log.lines + log.dropped.lines, log.chunks.at(-1).first];
        }"""
    )
    assert many == [True, 50_000, 49_801]


@pytest.mark.parametrize(
    "line",
    [
        "echo hello",
        "  a   'b  c' \"d e\"\tf\\ g ",
        "sh -c 'echo \"$HOME\"' ''",
        'printf "a\\"b\\$c\\\\d\\e"',
        "python -c 'print(1)' --flag=\"x y\"z",
        "a\\\nb 'c\nd'",
        "",
    ],
)
def test_a_command_line_is_cut_into_the_words_that_a_shell_makes_of_it(
    modules: Page, line: str
) -> None:
    words, again = modules.evaluate(
        """async line => {
            const { wordsOf, lineOf } = await import("/dashboard/submit/words.js");
            const { words } = wordsOf(line);
            return [words, wordsOf(lineOf(words)).words];
        }""",
        line,
    )
    script = f"set -- {line}\n[ $# = 0 ] || printf '%s\\0' \"$@\""
    shell = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert words == shell.stdout.split("\0")[:-1]
    assert again == words


def test_an_open_quote_and_what_needs_a_shell_are_told(modules: Page) -> None:
    told = modules.evaluate(
        """async lines => {
            const { wordsOf } = await import("/dashboard/submit/words.js");
            return lines.map(wordsOf).map(({ error, signs }) => [error, signs]);
        }""",
        ["echo 'a", "a | b > c", "echo '$x | y' \"$y\"", "a \\"],
    )
    assert told == [
        ["A quote ' is opened and never closed.", []],
        [None, ["a pipe", "a redirection"]],
        [None, ["a variable"]],
        ["A backslash stands at the end, before nothing.", []],
    ]


GRAPH = """\
name: render
priority: 3
tasks:
  prepare: {command: [sleep, 10], env: {DEBUG: yes, ZERO: 0x10}}
  tile.a:
    command: [sh, -c, 'echo {}']
    array: [1, 02, north]
    needs: [prepare]
    retry: {max: 3, on_exit: [75]}
    timeout_s: 600
  on: &later
    command: [make]
    tags: [gpu, "cuda>=12"]
  off:
    <<: *later
    needs: [tile.a]
"""


@pytest.mark.parametrize("text", [GRAPH, (ROOT / "examples" / "etl.yaml").read_text()])
def test_a_job_file_is_read_as_the_command_line_reads_it(
    modules: Page, tmp_path: Path, text: str
) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(text)
    wanted, _ = jobfile.read(file)
    assert read(modules, text) == wanted


def test_json_is_a_job_file_too(modules: Page) -> None:
    text = '{\n\t"command": ["sleep", "1"],\n\t"array": 3,\n\t"env": {"A": "1"}\n}\n'
    assert read(modules, text) == {"command": ["sleep", "1"], "array": 3, "env": {"A": "1"}}


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ({"field": "tasks.tile.a.needs"}, 8),
        ({"field": "tasks.tile.a.retry.max"}, 9),
        ({"field": "tasks.tile.a.command[2]"}, 6),
        ({"field": "tasks.prepare.env"}, 4),
        ({"field": "tasks.off.need"}, 14),
        ({"field": "priority"}, 2),
        ({"field": "tasks", "cycle": ["tile.a", "off", "tile.a"]}, 8),
        ({"field": "$"}, None),
        ({}, None),
    ],
)
def test_an_error_of_the_api_has_the_line_of_its_field(
    modules: Page, error: dict[str, Any], line: int | None
) -> None:
    found = modules.evaluate(
        """async ([text, error]) => {
            const { readJobFile } = await import("/dashboard/submit/job_file.js");
            return readJobFile(text).lineOf(error);
        }""",
        [GRAPH, error],
    )
    assert found == line


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("name: x\nname: y\n", 2, "This stands there twice: expected it once."),
        ("tasks:\n  a: {command: [x}\n", 2, "Flow sequence"),
        ("tasks:\n\ta: 1\n", 2, "Tabs are not allowed as indentation"),
        ('{"command": ["x"] "name": 1}', 1, "Unexpected double-quoted-scalar"),
        ("- a\n", 1, "Expected the fields of a job"),
        ("", 1, "Expected the fields of a job"),
        ("tasks:\n  a:\n    command: [x]\n    files: [tile.py]\n", 4, "tile.py is a path"),
        ("a: &a [*a]\n", 1, "This is more than 20 levels deep."),
        ("? [a]\n: 1\n", 1, "A name can't be a list or a mapping."),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(
    modules: Page, text: str, line: int, sentence: str
) -> None:
    told = modules.evaluate(
        """async text => {
            const { readJobFile } = await import("/dashboard/submit/job_file.js");
            try { readJobFile(text); } catch (error) { return [error.line, error.message]; }
        }""",
        text,
    )
    assert told[0] == line
    assert sentence in told[1]


def test_a_graph_of_ten_thousand_tasks_is_laid_out_and_no_two_boxes_meet(modules: Page) -> None:
    met, ways, took_ms = modules.evaluate(
        """async () => {
            const { laidOut } = await import("/dashboard/job/layout.js");
            const names = Array.from({ length: 10000 }, (_, i) => `task-${i}`);
            const needsOf = i => (i < 100 ? [] : [names[i - 100], names[i >> 1]]);
            const needs = new Map(names.map((name, i) => [name, needsOf(i)]));
            const before = performance.now();
            const { boxes, ways } = await laidOut(names, needs, new AbortController().signal);
            const took = performance.now() - before;
            const places = new Set();
            let met = 0;
            for (const { x, y, width, height } of boxes.values()) {
                const place = `${x} ${y}`;
                if (places.has(place)) met += 1;
                places.add(place);
            }
            return [met, ways.length, took];
        }"""
    )
    assert met == 0
    assert ways == 19_800
    assert took_ms < 2_000


def test_dagre_lays_out_in_a_worker_what_it_can(modules: Page) -> None:
    boxes = modules.evaluate(
        """async () => {
            const { laidOut } = await import("/dashboard/job/layout.js");
            const needs = new Map([["a", []], ["__proto__", ["a"]], ["c", ["a", "__proto__"]]]);
            const { signal } = new AbortController();
            const { boxes, ways } = await laidOut([...needs.keys()], needs, signal);
            const columns = [...boxes].map(([name, box]) => [name, Math.round(box.x)]);
            return [columns, ways.length, ways.every(way => way.points.length > 1)];
        }"""
    )
    columns = dict(boxes[0])
    assert columns["a"] < columns["__proto__"] < columns["c"]
    assert boxes[1:] == [3, True]


def read(page: Page, text: str) -> Any:
    return page.evaluate(
        """async text => {
            const { readJobFile } = await import("/dashboard/submit/job_file.js");
            return readJobFile(text).body;
        }""",
        text,
    )
