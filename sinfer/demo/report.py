"""What the demonstration found, for people and as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from sinfer.demo.verify import SinkCheck


@dataclass(slots=True)
class Report:
    """What the demonstration found.

    Attributes:
        product: name of the product.
        messages: how many were published.
        checks: one for each sink.
        elapsed_s: from the first message stored in JetStream to the last result stored there;
            None when there was no result.
        latencies_ms: for each result, from the closing of its window to the result in JetStream.
        flower_url: where Flower is while everything runs.
    """

    product: str
    messages: int
    checks: list[SinkCheck] = field(default_factory=list)
    elapsed_s: float | None = None
    latencies_ms: list[float] = field(default_factory=list)
    flower_url: str = ""

    @property
    def is_right(self) -> bool:
        """Whether each sink holds exactly one correct result for each message."""
        return bool(self.checks) and all(check.is_right for check in self.checks)

    @property
    def messages_per_s(self) -> float | None:
        return self.messages / self.elapsed_s if self.elapsed_s else None

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "ok": self.is_right,
            "product": self.product,
            "messages": self.messages,
            "messages_per_second": _rounded(self.messages_per_s),
            "close_to_result_ms": {
                "p50": _rounded(percentile(self.latencies_ms, 50)),
                "p99": _rounded(percentile(self.latencies_ms, 99)),
            },
            "sinks": [
                {
                    "sink": check.sink,
                    "ok": check.is_right,
                    "expected": check.expected,
                    "found": check.found,
                    "missing": len(check.missing),
                    "repeated": len(check.repeated),
                    "wrong": len(check.wrong),
                    "unknown": len(check.unknown),
                }
                for check in self.checks
            ],
            "flower": self.flower_url,
        }

    def lines(self) -> list[str]:
        """For people."""
        rate, p50, p99 = (
            self.messages_per_s,
            percentile(self.latencies_ms, 50),
            percentile(self.latencies_ms, 99),
        )
        lines = [f"{'✔' if check.is_right else '✘'} {check.describe()}" for check in self.checks]
        if rate is not None:
            lines.append(f"  {rate:,.0f} messages/s, from the first message to the last result")
        if p50 is not None and p99 is not None:
            lines.append(
                f"  window closed to result stored: {p50:,.0f} ms (p50), {p99:,.0f} ms (p99)"
            )
        lines.append(f"  Flower: {self.flower_url}")
        return lines


def percentile(values: Sequence[float], percent: float) -> float | None:
    """The smallest value that at least ``percent`` of the values do not exceed; None of none."""
    known = sorted(value for value in values if not math.isnan(value))
    if not known:
        return None
    return known[max(0, math.ceil(len(known) * percent / 100) - 1)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)
