"""GPUs as tasks see them: each gets its own, by CUDA_VISIBLE_DEVICES.

Which ones there are is told by the agent's own CUDA_VISIBLE_DEVICES, if it has one; else all that
NVML knows, by number in the order of their places on the bus. (CUDA's own order is by speed, so
tasks get CUDA_DEVICE_ORDER=PCI_BUS_ID with those numbers.) Where a GPU is cut into instances (MIG),
each instance counts.
"""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pynvml

from dtask.errors import InvalidRequest

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"
ORDER: Final = "CUDA_DEVICE_ORDER"


class Devices:
    """The GPUs of one worker, `per_task` for each slot; with 0, nobody gets any by name.

    `environ` is the agent's. Raises InvalidRequest that names the flag if there are too few GPUs
    for `max_tasks`.
    """

    def __init__(
        self, ids: Sequence[str], *, per_task: int, max_tasks: int, environ: Mapping[str, str]
    ) -> None:
        if per_task < 0:
            raise InvalidRequest(
                f"--gpus-per-task: expected a number of GPUs, 0 or more, got {per_task}.",
                code="malformed",
                field="--gpus-per-task",
            )
        if per_task * max_tasks > len(ids):
            fitting = len(ids) // per_task
            advice = f"expected --max-tasks {fitting} or less" if fitting else "leave it out"
            raise InvalidRequest(
                f"--gpus-per-task: --max-tasks {max_tasks} needs {per_task * max_tasks} in all, "
                f"and this worker sees {len(ids)}: {advice}.",
                code="malformed",
                field="--gpus-per-task",
            )
        self._per_task = per_task
        self._free = list(ids)
        self._order = {} if VISIBLE in environ else {ORDER: "PCI_BUS_ID"}
        self._taken: dict[str, list[str]] = {}

    def take(self, mark: str) -> dict[str, str]:
        """GPUs for the attempt with this mark, as variables of its environment."""
        if not self._per_task:
            return {}
        assert len(self._free) >= self._per_task, "there are enough for every slot"
        taken, self._free = self._free[: self._per_task], self._free[self._per_task :]
        self._taken[mark] = taken
        return {VISIBLE: ",".join(taken), **self._order}

    def give_back(self, mark: str) -> None:
        """Nothing is left of that attempt: what it had is free."""
        self._free.extend(self._taken.pop(mark, ()))


def visible_devices(environ: Mapping[str, str], nvml: Any = pynvml) -> tuple[str, ...]:  # noqa: ANN401 (untyped)
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    told = environ.get(VISIBLE)
    if told is None:
        return tuple(_devices(nvml))
    found: list[str] = []
    for word in told.split(","):
        device = word.strip()
        if not device or device.startswith("-") or device in ("none", "void", "NoDevFiles"):
            break  # as CUDA reads it: nothing from there on
        found.append(device)
    return tuple(dict.fromkeys(found))


def _devices(nvml: Any) -> list[str]:  # noqa: ANN401 (an untyped module)
    found: list[str] = []
    with contextlib.suppress(nvml.NVMLError):
        nvml.nvmlInit()
        try:
            for index in range(nvml.nvmlDeviceGetCount()):
                instances = _instances(nvml, index)
                found.extend([str(index)] if instances is None else instances)
        finally:
            nvml.nvmlShutdown()
    return found


def _instances(nvml: Any, index: int) -> list[str] | None:  # noqa: ANN401 (an untyped module)
    """The names of a GPU's instances; None if it is whole."""
    found = []
    try:
        gpu = nvml.nvmlDeviceGetHandleByIndex(index)
        if nvml.nvmlDeviceGetMigMode(gpu)[0] != nvml.NVML_DEVICE_MIG_ENABLE:
            return None
        for number in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
            with contextlib.suppress(nvml.NVMLError):  # there may be fewer
                instance = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, number)
                name = nvml.nvmlDeviceGetUUID(instance)
                found.append(name.decode() if isinstance(name, bytes) else name)
    except nvml.NVMLError:  # most models can't be cut at all
        return None
    return found
