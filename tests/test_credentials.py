import os
import subprocess
import sys
from pathlib import Path

import pytest

from dtask.credentials import find_token, known_token
from dtask.errors import Denied

TOKEN = "a-token-of-25-characters."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The state directory of a user with no token in the environment."""
    for name in ("DTASK_TOKEN", "DTASK_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path / "dtask"


def token_file(path: Path, text: str | bytes = TOKEN, mode: int = 0o600) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return path


def test_whoever_needs_the_token_first_makes_it_for_its_user_alone(home: Path) -> None:
    token = find_token()
    assert len(token) >= 43, "256 random bits"
    assert find_token() == token
    assert (home / "token").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert [path.name for path in home.iterdir()] == ["token"], "nothing is left beside it"


def test_many_makers_at_once_get_one_token(home: Path) -> None:
    program = (
        "import sys\n"
        "from dtask.credentials import find_token\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print(find_token())\n"
    )
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(8)
    ]
    for maker in makers:
        assert maker.stdout is not None
        assert maker.stdout.readline() == "ready\n"
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    tokens = {maker.communicate(timeout=30)[0] for maker in makers}
    assert tokens == {find_token() + "\n"}
    assert [path.name for path in home.iterdir()] == ["token"]


def test_the_order_is_option_token_token_file_and_state_home(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(mode=0o700)
    token_file(home / "token", "from-state-home-16-and-more")
    assert find_token() == "from-state-home-16-and-more"
    named = token_file(tmp_path / "b", "from-token-file-16-more")
    monkeypatch.setenv("DTASK_TOKEN_FILE", str(named))
    assert find_token() == "from-token-file-16-more"
    monkeypatch.setenv("DTASK_TOKEN", "from-environment-16-more")
    assert find_token() == "from-environment-16-more"
    option = token_file(tmp_path / "a", "from-option-16-and-more\n")
    assert find_token(option) == find_token(str(option)) == "from-option-16-and-more"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620])
def test_a_file_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = token_file(tmp_path / "token", mode=mode)
    with pytest.raises(Denied, match="chmod 600") as refused:
        find_token(path)
    assert refused.value.code == "wrong_token"
    assert TOKEN not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    ["", "\n", "x" * 15, "x" * 513, "two words in a token", "größer-als-sechzehn", "a\x00b" * 9],
)
def test_a_file_without_a_usable_token_is_refused_and_not_quoted(tmp_path: Path, text: str) -> None:
    path = token_file(tmp_path / "token", text)
    with pytest.raises(Denied, match="expected 16 to 512 printable ASCII") as refused:
        find_token(path)
    assert refused.value.code == "wrong_token"
    assert not text.strip() or text.strip() not in str(refused.value)


def test_a_file_that_is_missing_a_directory_or_no_text_is_refused(tmp_path: Path) -> None:
    for path, reason in [
        (tmp_path / "missing", "No such file"),
        (tmp_path, "Is a directory"),
        (token_file(tmp_path / "binary", b"\xff\xfe" * 20), "it is not text"),
    ]:
        with pytest.raises(Denied, match=f"can't be read .{reason}") as refused:
            find_token(path)
        assert refused.value.code == "no_token"


def test_a_bad_token_in_the_environment_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTASK_TOKEN", "short")
    with pytest.raises(Denied, match="DTASK_TOKEN is not usable"):
        find_token()
    assert not home.exists()


def test_a_state_home_that_can_not_be_made_is_told(home: Path) -> None:
    home.write_text("a file in its place")
    with pytest.raises(Denied, match="set DTASK_TOKEN_FILE or XDG_STATE_HOME"):
        find_token()


def test_a_token_that_points_nowhere_is_not_made_anew(home: Path) -> None:
    home.mkdir()
    (home / "token").symlink_to(home / "elsewhere")
    with pytest.raises(Denied, match="can't be read"):
        find_token()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user without a home")
def test_a_user_without_a_home_is_told_what_to_set() -> None:
    program = (
        "import os\n"
        "os.setgid(54321)\n"
        "os.setuid(54321)\n"
        "from dtask.credentials import find_token\n"
        "from dtask.errors import DtaskError\n"
        "try:\n"
        "    find_token()\n"
        "except DtaskError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", "import dtask.credentials\n" + program],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "XDG_STATE_HOME: this user has no home directory" in done.stdout


def test_a_client_uses_a_token_that_is_there_and_makes_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.delenv("DTASK_TOKEN", raising=False)
    monkeypatch.delenv("DTASK_TOKEN_FILE", raising=False)
    assert known_token() is None
    assert not list(tmp_path.iterdir())
    assert find_token() == known_token()
