"""What the job half needs of placement, and nothing more. The cluster joins the two."""

from typing import NamedTuple, Protocol

Tags = tuple[str, ...]


class Seat(NamedTuple):
    """A slot of a worker, held for one attempt."""

    worker_id: str
    incarnation: str
    fence: int


class Seats(Protocol):
    """Slots of workers whose channel is attached."""

    def check(self, tags: Tags, field: str) -> None:
        """Raise InvalidRequest unless these are requirements."""
        ...

    def musts(self, tags: Tags) -> frozenset[str]:
        """The tags among the requirements `tags`: a worker must have them, whatever else."""
        ...

    def meets(self, kind: Tags, tags: Tags) -> bool:
        """Whether a worker of the tags `kind` meets the requirements `tags`."""
        ...

    def fits(self, tags: Tags) -> bool:
        """Whether a worker that is there meets the requirements `tags`, were it idle."""
        ...

    def take(self, tags: Tags) -> Seat | None:
        """A slot for an attempt that requires `tags`; None if no worker has one."""
        ...

    def adopt(self, worker_id: str, fence: int) -> None:
        """Hold a slot for an attempt that the attached worker has already."""
        ...

    def give_back(self, fence: int) -> None:
        """The attempt is over, or its worker is lost; nothing happens if no slot is held."""
        ...

    def incarnation(self, worker_id: str) -> str | None:
        """The life of the worker whose channel is attached; None if none is."""
        ...

    def attached(self) -> int:
        """How many workers' channels are attached."""
        ...

    def opened(self) -> list[Tags]:
        """Tags of the workers that have become able to take a task since the last call."""
        ...

    def explain(self, tags: Tags) -> dict[str, object]:
        """How many workers can't take a task that requires `tags`, by reason."""
        ...
