"""Sample messages for the example: the same ones at every call, about 300 bytes each."""

from __future__ import annotations

import random
from collections.abc import Iterator

import msgspec

from sinfer.products.example.pipeline import FEATURES

STREAMS = {"IN": ["in.>"], "OUT": ["out.>"]}
"""The JetStream streams that the example reads and writes, and their subjects."""
SUBJECT = "in.w1"
"""Where its messages are published."""
FIRST_TIME_S = 1_700_000_000.0
"""Event time of the first sample, seconds since the epoch."""
INTERVAL_S = 0.01
"""Event time from one sample to the next."""


class Sample(msgspec.Struct, frozen=True):
    """What one message holds."""

    id: int
    time: float
    features: list[float]


def samples(count: int, first_id: int = 0) -> Iterator[Sample]:
    """Samples ``first_id`` to ``first_id + count - 1``; an id always has the same features."""
    for number in range(first_id, first_id + count):
        source = random.Random(number)
        features = [round(source.uniform(-1, 1), 12) for _ in range(FEATURES)]
        yield Sample(number, FIRST_TIME_S + number * INTERVAL_S, features)


def messages(count: int, first_id: int = 0) -> Iterator[bytes]:
    """The samples as they are published: JSON."""
    encoder = msgspec.json.Encoder()
    for sample in samples(count, first_id):
        yield encoder.encode(sample)
