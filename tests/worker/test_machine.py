import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from dtask.core.placement.tags import check_tag
from dtask.worker import machine

H200_BYTES = 143_771 * 2**20


class RecordedError(Exception):
    """Stands for pynvml.NVMLError."""


class RecordedNvml:
    """What pynvml said on machines with GPUs. A value that is an error is raised."""

    NVMLError = RecordedError

    def __init__(
        self,
        *gpus: tuple[Any, Any],
        cuda: Any = 12040,
        driver: Any = "550.54.15",
        init: Any = None,
    ) -> None:
        self._gpus = gpus
        self._cuda = cuda
        self._driver = driver
        self._init = init
        self.is_open = False

    def nvmlInit(self) -> None:  # noqa: N802
        told(self._init)
        self.is_open = True

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.is_open = False

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self._gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> tuple[Any, Any]:  # noqa: N802
        return self._gpus[index]

    def nvmlDeviceGetName(self, gpu: tuple[Any, Any]) -> Any:  # noqa: N802
        return told(gpu[0])

    def nvmlDeviceGetMemoryInfo(self, gpu: tuple[Any, Any]) -> Any:  # noqa: N802
        return SimpleNamespace(total=told(gpu[1]))

    def nvmlSystemGetCudaDriverVersion_v2(self) -> int:  # noqa: N802
        return told(self._cuda)

    def nvmlSystemGetDriverVersion(self) -> Any:  # noqa: N802
        return told(self._driver)


def told(value: Any) -> Any:
    if isinstance(value, RecordedError):
        raise value
    return value


def test_gpus_are_told_with_model_memory_cuda_and_driver() -> None:
    nvml = RecordedNvml(("NVIDIA H200", H200_BYTES), ("NVIDIA H200", H200_BYTES))
    assert machine.gpu_tags(nvml) == (
        "gpu",
        "gpus-2",
        "nvidia-h200",
        "gpu_memory_gb-150",
        "cuda-12.4",
        "driver-550.54.15",
    )
    assert not nvml.is_open


def test_each_kind_of_gpu_is_told() -> None:
    nvml = RecordedNvml(
        (b"NVIDIA A100-SXM4-80GB", 81_920 * 2**20), (b"NVIDIA GeForce RTX 4090", 24_564 * 2**20)
    )
    assert machine.gpu_tags(nvml)[2:6] == (
        "nvidia-a100-sxm4-80gb",
        "gpu_memory_gb-85",
        "nvidia-geforce-rtx-4090",
        "gpu_memory_gb-25",
    )


def test_name_of_a_model_becomes_a_legal_tag() -> None:
    nvml = RecordedNvml(("NVIDIA|Odd, <Name>! (TM) " + "x" * 80, H200_BYTES))
    tags = machine.gpu_tags(nvml)
    for tag in tags:
        check_tag(tag, "tags")
    assert tags[2].startswith("nvidia-odd-name-tm-x")


def test_lost_gpu_and_missing_answers_leave_out_only_their_tags() -> None:
    nvml = RecordedNvml(
        (RecordedError("GPU is lost"), 0),
        ("NVIDIA GB10", RecordedError("Not supported")),
        cuda=RecordedError("Function not found"),
    )
    assert machine.gpu_tags(nvml) == ("gpu", "gpus-2", "nvidia-gb10", "driver-550.54.15")


@pytest.mark.parametrize("nvml", [RecordedNvml(), RecordedNvml(init=RecordedError("no library"))])
def test_machine_without_gpus_or_driver_tells_none(nvml: RecordedNvml) -> None:
    assert machine.gpu_tags(nvml) == ()
    assert not nvml.is_open


def test_machine_tells_system_architecture_cpus_and_memory() -> None:
    system, architecture, cpus, memory, *_ = machine.auto_tags()
    assert system == "linux"
    assert architecture == os.uname().machine
    assert cpus == f"cpus-{machine.usable_cpus()}"
    assert memory == f"memory_gb-{machine.usable_memory_bytes() // 10**9}"
    for tag in machine.auto_tags():
        check_tag(tag, "tags")


def test_cpus_are_those_of_the_affinity() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.usable_cpus() == 1
    finally:
        os.sched_setaffinity(0, before)


def a_root(root: Path, groups: str, files: dict[str, str]) -> Path:
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()}
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_limits_of_unified_groups_bind_from_every_level(tmp_path: Path) -> None:
    root = a_root(
        tmp_path,
        "0::/user.slice/worker\n",
        {
            "user.slice/worker/cpu.max": "max 100000\n",
            "user.slice/worker/memory.max": "4000000000\n",
            "user.slice/cpu.max": "150000 100000\n",
            "user.slice/memory.max": "2000000000\n",
        },
    )
    assert machine.usable_cpus(root) == 1
    assert machine.usable_memory_bytes(root) == 2_000_000_000


def test_limits_of_version_one_groups_bind_inside_a_container(tmp_path: Path) -> None:
    """There the path is the host's, and the container's own limits stand at the top."""
    root = a_root(
        tmp_path,
        "5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n",
        {
            "cpu/cpu.cfs_quota_us": "50000\n",
            "cpu/cpu.cfs_period_us": "100000\n",
            "memory/memory.limit_in_bytes": "1000000000\n",
        },
    )
    assert machine.usable_cpus(root) == 1
    assert machine.usable_memory_bytes(root) == 1_000_000_000


@pytest.mark.parametrize("groups", ["0::/\n", ""])
def test_machine_without_limits_has_all_that_there_is(tmp_path: Path, groups: str) -> None:
    root = a_root(tmp_path, groups, {"cpu.max": "max 100000\n", "memory.max": "max\n"})
    assert machine.usable_cpus(root) == len(os.sched_getaffinity(0))
    assert machine.usable_memory_bytes(root) == psutil.virtual_memory().total
