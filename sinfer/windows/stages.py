"""Where a message can be given up."""

from __future__ import annotations

from typing import Literal

Stage = Literal["preprocess", "window", "request", "inference", "results", "sink"]
