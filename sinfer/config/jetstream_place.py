"""Where JetStream is: servers, and under which prefix of theirs its API answers.

A server answers for the JetStream of its own domain and account. That of another domain, as behind
a leaf node, and that of another account, which is imported, have prefixes of their own. A
connection is made to a place, and whoever uses it asks under its prefix: see
``sinfer.nats.client``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator

API = "$JS.API"
"""The prefix for the server's own domain and account."""


@dataclass(frozen=True, slots=True)
class NatsPlace:
    """Servers, and a JetStream that is reached through them.

    Attributes:
        servers: NATS URLs.
        domain: the JetStream domain; empty for that of the servers.
        prefix: of the API where it is imported; empty where it is not.
    """

    servers: tuple[str, ...]
    domain: str = ""
    prefix: str = ""

    @property
    def api_prefix(self) -> str:
        """What the subjects of all requests begin with."""
        return self.prefix or (f"$JS.{self.domain}.API" if self.domain else API)

    @property
    def shown(self) -> str:
        """For errors, without passwords: ``JetStream domain 'hub' at nats://h:4222``."""
        servers = ", ".join(re.sub(r"^(\w+://)?.*@", r"\1", server) for server in self.servers)
        if self.domain:
            return f"JetStream domain {self.domain!r} at {servers}"
        what = f"JetStream under the API prefix {self.prefix!r}" if self.prefix else "JetStream"
        return f"{what} at {servers}"


def _domain(value: str) -> str:
    if value and not re.fullmatch(r"[^\s.*>$]+", value):
        raise ValueError("is the name of a JetStream domain, one word without dots, such as 'hub'")
    return value


def _prefix(value: str) -> str:
    prefix = value.removesuffix(">").removesuffix(".")
    if prefix and not re.fullmatch(r"[^\s.*>]+(\.[^\s.*>]+)*", prefix):
        raise ValueError("is what stands for $JS.API in subjects, such as 'JS.plant.API'")
    return prefix


Domain = Annotated[str, AfterValidator(_domain)]
"""A JetStream domain in a configuration; empty for none."""

ApiPrefix = Annotated[str, AfterValidator(_prefix)]
"""A prefix of the JetStream API in a configuration; empty for none."""
