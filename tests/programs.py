"""Programs that are no part of dtask and that tests run: Prometheus, nginx, a browser."""

import os
import shutil

import pytest

#: Where programs are that only root uses, as a rule.
_SYSTEM = "/usr/sbin:/sbin"


def program(name: str) -> str:
    """The path of a program. Where it is missing the test is skipped, and in CI it fails."""
    path = shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:{_SYSTEM}")
    if path is not None:
        return path
    sentence = f"{name} is not installed: .ci/packages does that, as root of a Debian system."
    if os.environ.get("CI"):
        pytest.fail(sentence)
    pytest.skip(sentence)
