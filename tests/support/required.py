"""Servers that come with no Python package: they are there, or a test cannot run."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def unavailable(what: str) -> NoReturn:
    """Skip the test; in CI, which installs the servers, it fails."""
    told = f"needs {what}; as root, 'make servers' installs it"
    if os.environ.get("CI") == "true":
        pytest.fail(told)
    pytest.skip(told)
