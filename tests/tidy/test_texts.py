"""What must not stand in any file: unfinished business, one machine's paths, where packages are."""

import re

import pytest

from tidy.sources import name_of, texts

#: Written so that no pattern finds itself.
BANNED = {
    "a marker of something unfinished": r"\b(?:TO[D]O|FIX[M]E|X[X]X|HA[C]K)\b",
    "a path of one machine": r"(?<![\w.~-])/(?:work|root|home)/\w",
    "the address of a registry": r"\b(?:pypi|pythonhosted|npmjs|docker|ghcr|quay)\.(?:org|io|com)",
    "a word that says nothing": r"(?i)\b(?:bl[a]zing|world-cl[a]ss|best-in-cl[a]ss|seaml[e]ss)",
    "a conflict that was left": r"^(?:<{7}|>{7}) ",
    "a page that is not in this repository": r"\b(?:DES[I]GN|ANCH[O]RS|FA[C]TS)\.md\b",
}


@pytest.mark.parametrize("what", BANNED)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(BANNED[what])
    found = [
        f"{name_of(path)}:{number} {match[0]}"
        for path in texts()
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        for match in pattern.finditer(line)
    ]
    assert found == []


def test_every_text_ends_with_one_newline() -> None:
    ragged = []
    for path in texts():
        text = path.read_text()
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            ragged.append(name_of(path))
    assert ragged == []
