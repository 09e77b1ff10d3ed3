"""What a machine is, as tags: what `--tags auto` adds.

| tag                   | meaning                                                               |
|-----------------------|-----------------------------------------------------------------------|
| `linux`               | operating system, in lower case                                       |
| `x86_64`              | architecture, as the kernel names it                                  |
| `cpus-8`              | CPUs that this process may use: affinity and cgroup quota count       |
| `memory_gb-16`        | memory that it may use, in whole GB (10^9 bytes); cgroup limits count |
| `gpu`                 | there is a GPU that NVML knows                                        |
| `gpus-2`              | how many of them                                                      |
| `nvidia-h200`         | each model, in lower case with hyphens                                |
| `gpu_memory_gb-150`   | each size of GPU memory, in whole GB                                  |
| `cuda-12.4`           | newest CUDA that the driver can serve                                 |
| `driver-550.54.15`    | version of the driver                                                 |

All numbers stand after a hyphen, so that requirements can compare them: `cpus>=8`,
`gpu_memory_gb>=80`, `cuda>=12.0`. GB are decimal and rounded down: a machine sold with 16 GB
shows a little less than 16 GiB, and still meets `memory_gb>=16`.
"""

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psutil
import pynvml

from dtask.core.placement.tags import TAG_CHARS_MAX

_GB: Final = 10**9


def auto_tags(nvml: Any = pynvml) -> tuple[str, ...]:  # noqa: ANN401 (an untyped module)
    """The tags of this machine. Without NVML or a GPU, those of GPUs are left out."""
    return (
        platform.system().lower(),
        platform.machine(),
        f"cpus-{usable_cpus()}",
        f"memory_gb-{usable_memory_bytes() // _GB}",
        *gpu_tags(nvml),
    )


def usable_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may keep busy, at least 1; `root` is where /proc and /sys are."""
    cpus = len(os.sched_getaffinity(0))
    for group in _groups(root, "cpu"):
        with contextlib.suppress(OSError, ValueError, ZeroDivisionError):
            quota, period = _cpu_quota(group)
            cpus = min(cpus, int(quota / period))
    return max(cpus, 1)


def usable_memory_bytes(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may use; `root` is where /proc and /sys are."""
    memory_bytes: int = psutil.virtual_memory().total
    for group in _groups(root, "memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # of cgroups v2 and v1
            with contextlib.suppress(OSError, ValueError):
                memory_bytes = min(memory_bytes, int((group / name).read_text()))
    return memory_bytes


def gpu_tags(nvml: Any) -> tuple[str, ...]:  # noqa: ANN401 (an untyped module)
    """What NVML tells of the GPUs; nothing where it can't."""
    tags: list[str] = []
    with contextlib.suppress(nvml.NVMLError):
        nvml.nvmlInit()
        try:
            tags.extend(_gpu_tags(nvml))
        finally:
            nvml.nvmlShutdown()
    return tuple(dict.fromkeys(tags))


def _gpu_tags(nvml: Any) -> Iterator[str]:  # noqa: ANN401 (an untyped module)
    count = nvml.nvmlDeviceGetCount()
    if not count:
        return
    yield "gpu"
    yield f"gpus-{count}"
    for index in range(count):
        # A GPU that has fallen off its bus, or one without memory of its own, tells less.
        with contextlib.suppress(nvml.NVMLError):
            gpu = nvml.nvmlDeviceGetHandleByIndex(index)
            yield _tag(_text(nvml.nvmlDeviceGetName(gpu)))
            yield f"gpu_memory_gb-{nvml.nvmlDeviceGetMemoryInfo(gpu).total // _GB}"
    with contextlib.suppress(nvml.NVMLError):
        cuda = nvml.nvmlSystemGetCudaDriverVersion_v2()  # 12040 is 12.4
        yield f"cuda-{cuda // 1000}.{cuda % 1000 // 10}"
    with contextlib.suppress(nvml.NVMLError):
        yield _tag(f"driver-{_text(nvml.nvmlSystemGetDriverVersion())}")


def _tag(name: str) -> str:
    """A name as a legal tag: `NVIDIA A100-SXM4-80GB` is `nvidia-a100-sxm4-80gb`."""
    return re.sub(r"[^a-z0-9._]+", "-", name.lower()).strip("-")[:TAG_CHARS_MAX]


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # bytes in older bindings


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Control groups whose limits on `controller` bind this process: its own and those above."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    base = root / "sys/fs/cgroup"
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", controller) or controller in controllers.split(","):
            group = (base / controller if controllers else base) / path.lstrip("/")
            # Inside a container the path may be the host's; its directories are then not there.
            yield from (above for above in (group, *group.parents) if above.is_relative_to(base))


def _cpu_quota(group: Path) -> tuple[int, int]:
    """Quota and period of a group, in microseconds. Raises OSError or ValueError if it has none."""
    unified = group / "cpu.max"
    if unified.exists():
        quota, period = unified.read_text().split()
    else:
        quota = (group / "cpu.cfs_quota_us").read_text()
        period = (group / "cpu.cfs_period_us").read_text()
    if quota.strip() in ("max", "-1"):
        raise ValueError(quota)
    return int(quota), int(period)
