"""What `sinfer demo` publishes to the example, and the result that each message must have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from sinfer.embedded.example_model import expected
from sinfer.products.example.data import STREAMS, SUBJECT, Sample, samples
from sinfer.products.example.tasks import THRESHOLD
from sinfer.products.scenario import Case, Scenario


def _cases(count: int) -> Iterator[Case]:
    encoder = msgspec.json.Encoder()
    for sample in samples(count):
        yield Case(SUBJECT, encoder.encode(sample), sample.id, result_of(sample, THRESHOLD))


def result_of(sample: Sample, threshold: float) -> Mapping[str, Any]:
    """The result that a sample must have, in a task with that threshold."""
    y = expected(sample.features)
    return {"id": sample.id, "y": y, "high": y > threshold}


def _environment(model_url: str, database_url: str) -> Mapping[str, str]:
    return {"EXAMPLE_MODEL_URL": model_url, "EXAMPLE_DATABASE_URL": database_url}


scenario = Scenario(
    product="example",
    streams=STREAMS,
    cases=_cases,
    results_subject="out.w1",
    results_table="results",
    environment=_environment,
    identify=lambda result: result["id"],
)
