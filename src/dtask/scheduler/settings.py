"""What an operator can set of a scheduler, checked once; everything else receives plain values."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Final

from dtask.addresses import PORT_MAX, is_loopback
from dtask.core import cluster
from dtask.core.placement.fleet import Health
from dtask.errors import InvalidRequest
from dtask.log_lines import LogFormat

#: A worker heartbeats every 3 s or so; thresholds of a week and more are mistakes, not wishes.
DURATION_S_MAX: Final = 7 * 86_400.0

#: Ended jobs are in memory, with a few words each.
KEEP_DAYS_MAX: Final = 3_650.0
KEEP_JOBS_MAX: Final = 1_000_000

#: A log of an attempt larger than this is no log any more.
LOG_MB_MAX: Final = 65_536

_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a client may take, in seconds. Precedents: nginx waits 60 s for each of these."""

    #: From the first byte of a request to the end of its head.
    head_s: float = 10.0
    #: From the end of the head to the end of the body.
    body_s: float = 30.0
    #: Until a new connection sends its first byte.
    first_byte_s: float = 10.0
    #: Between two requests of a connection. Longer than any heartbeat interval in use, so that a
    #: worker keeps its connection.
    keep_alive_s: float = 75.0
    #: For a client that does not read its answer.
    unread_s: float = 30.0
    #: For the requests under way, once the scheduler was told to stop.
    stop_s: int = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One scheduler's settings. Raises InvalidRequest that names the flag and what is right."""

    host: str = "127.0.0.1"
    #: 0: any free one.
    port: int = 8080
    #: Where the token is; None: found as `dtask.credentials` says.
    token_file: str | None = None
    #: Placement needs no token, wherever the request comes from.
    insecure: bool = False
    #: Placement needs the token, even on loopback.
    require_token: bool = False
    log_format: LogFormat = "text"
    #: Seconds of silence after which a worker is suspect, and offline.
    suspect_after_s: float = 10.0
    offline_after_s: float = 20.0
    #: Seconds after which an offline worker is forgotten.
    forget_after_s: float = 3600.0
    #: Seconds after the start in which refusals say that not all workers are known yet.
    warm_up_s: float = 5.0
    #: Where jobs, their logs and blobs are kept; None: in memory, and gone with the scheduler.
    data: Path | None = None
    #: How long jobs that ended are kept, and how many of them at most.
    keep_days: float = 30.0
    keep_jobs: int = 100_000
    #: What is kept of one attempt's output, half for each stream.
    log_max_mb: int = 64
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        if not self.host:
            raise _wrong("--host", "it is empty: expected an address such as 127.0.0.1.")
        if not 0 <= self.port <= PORT_MAX:
            raise _wrong("--port", f"expected 0 to {PORT_MAX}, got {self.port}.")
        if self.insecure and self.require_token:
            raise _wrong("--insecure", "it contradicts --require-token: choose one of them.")
        for name in ("suspect_after_s", "offline_after_s", "forget_after_s"):
            self._check_duration(name, above=0)
        self._check_duration("warm_up_s", above=-1)
        if not 0 < self.keep_days <= KEEP_DAYS_MAX:
            raise _wrong(
                "--keep-days",
                f"expected days, at most {KEEP_DAYS_MAX:g}, got {self.keep_days:g}.",
            )
        if not 0 <= self.keep_jobs <= KEEP_JOBS_MAX:
            raise _wrong("--keep-jobs", f"expected 0 to {KEEP_JOBS_MAX}, got {self.keep_jobs}.")
        if not 1 <= self.log_max_mb <= LOG_MB_MAX:
            raise _wrong("--log-max-mb", f"expected 1 to {LOG_MB_MAX}, got {self.log_max_mb}.")
        for each in fields(self.patience):
            assert getattr(self.patience, each.name) > 0, each.name
        if self.offline_after_s < self.suspect_after_s:
            raise _wrong(
                "--offline-after",
                f"expected at least --suspect-after, {self.suspect_after_s:g} s, "
                f"got {self.offline_after_s:g} s.",
            )

    @property
    def binds_loopback(self) -> bool:
        """Whether only this machine can reach the scheduler."""
        return is_loopback(self.host)

    def core(self) -> cluster.Settings:
        """The core's share."""
        health = Health(self.suspect_after_s, self.offline_after_s, self.forget_after_s)
        return cluster.Settings(
            health, self.warm_up_s, keep_s=self.keep_days * _DAY_S, keep_jobs=self.keep_jobs
        )

    def _check_duration(self, name: str, *, above: float) -> None:
        value = getattr(self, name)
        if not above < value <= DURATION_S_MAX or value < 0:
            flag = "--" + name.removesuffix("_s").replace("_", "-")
            raise _wrong(flag, f"expected seconds, at most {DURATION_S_MAX:g}, got {value:g}.")


def _wrong(flag: str, sentence: str) -> InvalidRequest:
    return InvalidRequest(f"{flag}: {sentence}", code="malformed", field=flag)
