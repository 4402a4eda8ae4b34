"""The part of a configuration that says where JetStream is."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from sinfer.config.jetstream_place import ApiPrefix, Domain, NatsPlace
from sinfer.config.model import ConfigModel
from sinfer.config.units import NatsUrls
from sinfer.settings import settings


class JetStreamPart(ConfigModel):
    """Base of the settings of what reads from JetStream or writes to it."""

    servers: NatsUrls | None = Field(default=None, min_length=1)
    """NATS URLs; by default those of ``SINFER_NATS_SERVERS``, and in a sink those of the task's
    source."""
    domain: Domain = ""
    """The JetStream domain, where it is not that of the servers, as behind a leaf node; by default
    ``SINFER_NATS_DOMAIN``, where ``servers`` are not given either."""
    api_prefix: ApiPrefix = ""
    """What stands for ``$JS.API`` where the JetStream of another account is imported; by default
    ``SINFER_NATS_API_PREFIX``, likewise."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.domain and self.api_prefix:
            raise ValueError("give domain or api_prefix, not both")
        return self

    def beside(self, other: JetStreamPart) -> Self:
        """The same, with the servers of another part where this one names none."""
        if self.servers is not None or other.servers is None:
            return self
        return self.model_copy(update={"servers": other.servers})

    @property
    def place(self) -> NatsPlace:
        """Where it is, with what the settings say where this does not."""
        usual = settings().nats_place
        if self.servers is None and not self.domain and not self.api_prefix:
            return usual
        servers = usual.servers if self.servers is None else tuple(self.servers)
        return NatsPlace(servers, self.domain, self.api_prefix)
