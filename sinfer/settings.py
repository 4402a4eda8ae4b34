"""Settings of a process, from ``SINFER_*`` environment variables or a ``.env`` file."""

from __future__ import annotations

import difflib
import os
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sinfer.config import explain
from sinfer.errors import ConfigError
from sinfer.units import Duration

PREFIX = "SINFER_"

_SHORTEST_TICK = timedelta(milliseconds=10)


class Settings(BaseSettings):
    """What every sinfer process reads at its start. Names are ``SINFER_`` and the field's."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    redis_url: str = "redis://127.0.0.1:6379/0"
    """The window store."""
    broker_url: str = ""
    """The Celery broker; by default the window store's server, database 1."""
    products: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """Modules that hold products, comma-separated."""
    nats_servers: Annotated[list[str], NoDecode] = Field(
        default_factory=lambda: ["nats://127.0.0.1:4222"]
    )
    """NATS servers for tasks that name none, comma-separated."""
    tick: Duration = Field(default="200ms", validate_default=True)
    """How often beat closes what is due."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe messages that are logged."""
    log_format: Literal["text", "json"] = "text"
    """How log lines are written."""

    @field_validator("products", "nats_servers", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        if urlsplit(value).scheme not in ("redis", "rediss"):
            raise ValueError("write redis://host:port/database, or rediss:// for TLS")
        return value

    @field_validator("tick", mode="after")
    @classmethod
    def _tick(cls, value: timedelta) -> timedelta:
        if value < _SHORTEST_TICK:
            raise ValueError("must be at least 10ms")
        return value

    @property
    def celery_broker_url(self) -> str:
        """The broker's URL, derived from ``redis_url`` where none is set."""
        if self.broker_url:
            return self.broker_url
        parts = urlsplit(self.redis_url)
        return urlunsplit(parts._replace(path="/1"))


def load_settings(dotenv: Path | None = None) -> Settings:
    """Read and check the settings.

    Args:
        dotenv: a file of ``NAME=value`` lines, ``.env`` by default; the environment wins over it.

    Raises:
        ConfigError: a value is wrong, or a ``SINFER_*`` name is unknown.
    """
    path = dotenv if dotenv is not None else Path(".env")
    in_file = [name for name in dotenv_values(path) if name.upper().startswith(PREFIX)]
    in_environment = [name for name in os.environ if name.upper().startswith(PREFIX)]
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    for name in sorted({*in_file, *in_environment}):
        if name.upper() not in known:
            nearest = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.0)
            raise ConfigError(f"setting {name} is unknown; did you mean {nearest[0]}?")
    try:
        return Settings(_env_file=path)
    except ValidationError as error:
        raise explain(error, "settings (SINFER_*)") from None


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()
