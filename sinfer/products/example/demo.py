"""What `sinfer demo` publishes to the example, and the result that each message must have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec

from sinfer.embedded.model_server import expected
from sinfer.products.example.data import STREAMS, SUBJECT, samples
from sinfer.products.scenario import Case, Scenario


def _cases(count: int) -> Iterator[Case]:
    encoder = msgspec.json.Encoder()
    for sample in samples(count):
        result = {"id": sample.id, "y": expected(sample.features)}
        yield Case(SUBJECT, encoder.encode(sample), sample.id, result)


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
