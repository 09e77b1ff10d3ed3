from typing import Any

import pytest

from dtask.errors import InvalidRequest
from dtask.worker.devices import Devices, visible_devices


class GpuError(Exception):
    """As of NVML."""


class Gpus:
    """NVML of a machine with a GPU for each entry: its instances, or None for a whole one."""

    NVMLError = GpuError
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, *gpus: list[str] | None, there: bool = True) -> None:
        self._gpus = gpus
        self._there = there

    def nvmlInit(self) -> None:  # noqa: N802 (its name)
        if not self._there:
            raise GpuError

    def nvmlShutdown(self) -> None:  # noqa: N802 (its name)
        pass

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802 (its name)
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:  # noqa: N802 (its name)
        return self._gpus[index]

    def nvmlDeviceGetMigMode(self, gpu: Any) -> list[int]:  # noqa: N802 (its name)
        if gpu is None:
            raise GpuError
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, _: Any) -> int:  # noqa: N802 (its name)
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Any, number: int) -> Any:  # noqa: N802
        if number >= len(gpu):
            raise GpuError
        return gpu[number]

    def nvmlDeviceGetUUID(self, instance: Any) -> Any:  # noqa: N802 (its name)
        return instance


@pytest.mark.parametrize(
    ("told", "gpus", "seen"),
    [
        (None, Gpus(None, None), ("0", "1")),
        (None, Gpus(there=False), ()),
        (None, Gpus(None, ["MIG-a", "MIG-b"], None), ("0", "MIG-a", "MIG-b", "2")),
        ("2, 3", Gpus(None), ("2", "3")),
        ("GPU-7,MIG-b", Gpus(None), ("GPU-7", "MIG-b")),
        ("", Gpus(None), ()),
        ("0,-1,1", Gpus(None), ("0",)),
        ("1,1", Gpus(None), ("1",)),
    ],
)
def test_the_gpus_of_a_worker_are_those_left_to_it(
    told: str | None, gpus: Gpus, seen: tuple[str, ...]
) -> None:
    environ = {} if told is None else {"CUDA_VISIBLE_DEVICES": told}
    assert visible_devices(environ, gpus) == seen


def test_no_gpu_is_had_twice_and_what_is_given_back_is_had_again() -> None:
    devices = Devices("abcde", per_task=2, max_tasks=2, environ={"CUDA_VISIBLE_DEVICES": "a.."})
    assert devices.take("m1") == {"CUDA_VISIBLE_DEVICES": "a,b"}
    assert devices.take("m2") == {"CUDA_VISIBLE_DEVICES": "c,d"}
    devices.give_back("m1")
    devices.give_back("m1")
    assert devices.take("m3") == {"CUDA_VISIBLE_DEVICES": "e,a"}


def test_numbers_of_the_bus_are_read_in_the_order_of_the_bus() -> None:
    devices = Devices(["0"], per_task=1, max_tasks=1, environ={})
    assert devices.take("m")["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_without_gpus_for_each_nobody_is_told_anything() -> None:
    assert Devices(["0"], per_task=0, max_tasks=99, environ={}).take("m") == {}


@pytest.mark.parametrize(
    ("ids", "per_task", "advice"),
    [
        (["0", "1", "2"], 1, "--max-tasks 3 or less"),
        ([], 1, "leave it out"),
        (["0"], -1, "0 or more"),
    ],
)
def test_too_few_gpus_are_refused_with_the_flag(ids: list[str], per_task: int, advice: str) -> None:
    with pytest.raises(InvalidRequest, match=advice) as refused:
        Devices(ids, per_task=per_task, max_tasks=4, environ={})
    assert refused.value.facts["field"] == "--gpus-per-task"
