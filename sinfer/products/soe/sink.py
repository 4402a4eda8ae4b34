"""A sink of the product's own: set-points, for those answers alone that converged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

from sinfer import Confirmed, Sink, SinkConfig, WindowResults
from sinfer.encoding import from_json
from sinfer.nats.config import JetStreamPart
from sinfer.sinks import JetStreamSink


class SetPointSink(Sink):
    """Publishes converged results as the ``jetstream`` sink does, and no others.

    A unit must not follow an answer that the model itself does not stand by. Results may come again
    and, after an outage, late: whoever follows them ignores an ``end`` that is not newer than the
    last.
    """

    type = "soe_setpoints"

    class Config(JetStreamPart, SinkConfig):
        """Settings of the sink."""

        type: Literal["soe_setpoints"] = "soe_setpoints"
        subject: str
        """Where set-points are published."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self._jetstream = JetStreamSink(
            JetStreamSink.Config(
                subject=config.subject,
                servers=config.servers,
                domain=config.domain,
                api_prefix=config.api_prefix,
            )
        )

    async def write(self, results: WindowResults) -> Confirmed | None:
        converged = [row for row in results if from_json(row.data)["status"] == "converged"]
        return await self._jetstream.write(replace(results, rows=converged))

    async def aclose(self) -> None:
        await self._jetstream.aclose()
