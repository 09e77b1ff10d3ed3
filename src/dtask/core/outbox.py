"""What may not be shown yet: the steps that are not durable, in order.

The rule of the job layer: a step's changes are committed, and only then its answer goes out and
its effects are performed. The loop goes on meanwhile, so steps pile up behind the commit under
way; they are the next commit, all of them together. A step without changes waits as well, behind
the steps that it may have seen.

A *letter* is whatever its owner wants back when the step is durable.
"""

from typing import Generic, TypeVar

from dtask.core.jobs.rows import Change

Letter = TypeVar("Letter")


class Outbox(Generic[Letter]):
    """The letters that wait for a commit. At most one commit is under way."""

    def __init__(self) -> None:
        self._committing = False
        #: Letters of the commit under way, and what comes after it.
        self._sent: list[Letter] = []
        self._changes: list[Change] = []
        self._waiting: list[Letter] = []

    def add(self, changes: tuple[Change, ...], letter: Letter) -> bool:
        """A step was handled. False: its letter goes out at once, for everything is durable."""
        if not (changes or self._committing or self._changes):
            return False
        self._changes.extend(changes)
        self._waiting.append(letter)
        return True

    def next(self) -> list[Change] | None:
        """Begin the next commit: its changes; None if one is under way, or none is needed."""
        if self._committing or not self._changes:
            return None
        self._committing = True
        changes, self._changes = self._changes, []
        self._sent, self._waiting = self._waiting, []
        return changes

    def committed(self) -> list[Letter]:
        """The commit under way is durable: its letters go out."""
        assert self._committing
        self._committing = False
        letters, self._sent = self._sent, []
        if not self._changes:  # these only waited for what has just become durable
            letters, self._waiting = letters + self._waiting, []
        return letters

    def failed(self) -> list[Letter]:
        """The commit under way may not be durable: no letter goes out, nor of what followed."""
        self._committing = False
        letters = self._sent + self._waiting
        self._sent, self._waiting, self._changes = [], [], []
        return letters
