"""Settings of a process, from ``SINFER_*`` environment variables or a ``.env`` file."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from pydantic import (
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sinfer.config.broker_url import check_broker_url
from sinfer.config.environment import is_service_link
from sinfer.config.jetstream_place import ApiPrefix, Domain, NatsPlace
from sinfer.config.model import explain
from sinfer.config.proxy import Proxy
from sinfer.config.secret_files import read_creds, read_file, read_seed
from sinfer.config.sentinel_url import SCHEMES, SentinelUrl
from sinfer.config.tls import TlsFiles
from sinfer.config.units import Duration, NatsUrls
from sinfer.errors import ConfigError
from sinfer.logging.masking import masked

PREFIX = "SINFER_"

FILES = (
    "nats_creds", "nats_nkey_seed", "nats_tls_ca", "nats_tls_cert", "nats_tls_key",
    "redis_tls_ca", "redis_tls_cert", "redis_tls_key",
)  # fmt: skip
"""Settings that name files; an empty text is as good as none."""

_FILE = "_FILE"
"""Ends the name of a setting whose value stands in a file."""

_NEAR = 0.7
"""How alike two names are, of 1, for one to be taken for a misspelling of the other."""

_MEANT = {
    "BROKER": "BROKER_URL",
    "CELERY_BROKER_URL": "BROKER_URL",
    "HTTP_PROXY": "PROXY",
    "HTTPS_PROXY": "PROXY",
    "NATS": "NATS_SERVERS",
    "NATS_URL": "NATS_SERVERS",
    "NATS_URLS": "NATS_SERVERS",
    "NATS_HOST": "NATS_SERVERS",
    "NATS_PORT": "NATS_SERVERS",
    "REDIS": "REDIS_URL",
    "REDIS_DB": "REDIS_URL",
    "REDIS_HOST": "REDIS_URL",
    "REDIS_PASSWORD": "REDIS_URL",
    "REDIS_PORT": "REDIS_URL",
    "REDIS_USER": "REDIS_URL",
}
"""What people call settings whose names are others."""

_LISTS = ("products", "nats_servers")
_SECRETS = ("nats_password", "nats_token")
"""Settings of which blanks may be a part."""

_MODULE = re.compile(r"[^\s,;\[\]{}()'\"]+")

_SHORTEST_TICK = timedelta(milliseconds=10)


class Settings(BaseSettings):
    """What every sinfer process reads at its start. Names are ``SINFER_`` and the field's."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    redis_url: str = "redis://127.0.0.1:6379/0"
    """The window store: ``redis://host:port/database``, or Sentinels:
    ``sentinel://host:26379,other:26379/name/0``."""
    broker_url: str = ""
    """The Celery broker; by default the window store's server, database 1."""
    products: Annotated[list[str], NoDecode] = Field(default_factory=list)
    """Modules that hold products, comma-separated."""
    nats_servers: Annotated[NatsUrls, NoDecode] = Field(
        default_factory=lambda: ["nats://127.0.0.1:4222"]
    )
    """NATS servers for tasks that name none, comma-separated."""
    nats_domain: Domain = ""
    """JetStream domain behind these servers, for tasks that name neither servers nor a domain."""
    nats_api_prefix: ApiPrefix = ""
    """Prefix of an imported JetStream API instead, likewise."""
    redis_tls_ca: Path | None = None
    """CA certificates (PEM) for ``rediss://`` and ``sentinels://``, store and broker; by default
    the system's."""
    redis_tls_cert: Path | None = None
    """Client certificate (PEM) that is shown to Redis."""
    redis_tls_key: Path | None = None
    """Private key of ``redis_tls_cert``, where that file does not hold it."""
    redis_replicas: Annotated[int, Field(ge=0, le=1000)] | None = None
    """How many replicas of the window store have to have what is acknowledged; by default one,
    where there are any."""
    nats_user: str = ""
    """User for NATS servers whose URL names none."""
    nats_password: SecretStr = SecretStr("")
    """Password of ``nats_user``."""
    nats_token: SecretStr = SecretStr("")
    """Token for NATS servers whose URL names no user."""
    nats_creds: Path | None = None
    """Credentials file (JWT and seed) for NATS servers whose URL names no user."""
    nats_nkey_seed: Path | None = None
    """File with the nkey seed of a user, likewise."""
    nats_tls_ca: Path | None = None
    """CA certificates (PEM) for NATS; by default the system's."""
    nats_tls_cert: Path | None = None
    """Client certificate (PEM) that is shown to NATS."""
    nats_tls_key: Path | None = None
    """Private key of ``nats_tls_cert``, where that file does not hold it."""
    nats_tls_hostname: str = ""
    """Name that the NATS servers' certificates must have; by default the one in the URL."""
    nats_tls_handshake_first: bool = False
    """Begin with TLS, as NATS servers with ``handshake_first`` demand."""
    proxy: Proxy | None = None
    """The proxy for models and http sinks that name none: a URL, ``none``, or ``environment`` as by
    default. ``NO_PROXY`` counts."""
    tick: Duration = Field(default="200ms", validate_default=True)
    """How often beat closes what is due."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    """The least severe messages that are logged."""
    log_format: Literal["text", "json"] = "text"
    """How log lines are written."""

    @field_validator(*_LISTS, mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return [part.strip() for part in value.split(",") if part.strip()]
        return value

    @field_validator("products")
    @classmethod
    def _modules(cls, value: list[str]) -> list[str]:
        for name in value:
            if not _MODULE.fullmatch(name):
                raise ValueError(f"{name!r} is no name of a module; separate several by commas")
        return list(dict.fromkeys(value))

    @field_validator("redis_url", "broker_url", "log_level", "log_format", mode="before")
    @classmethod
    def _without_blanks(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return value.strip()

    @field_validator(*FILES, "proxy", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("redis_replicas", mode="before")
    @classmethod
    def _replicas(cls, value: object) -> object:
        return None if value in ("", "auto") else value

    @field_validator("nats_creds", "nats_nkey_seed")
    @classmethod
    def _credentials(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is not None:
            read_creds(value) if info.field_name == "nats_creds" else read_seed(value)
        return value

    @model_validator(mode="after")
    def _one_identity(self) -> Self:
        given = {
            "nats_user": bool(self.nats_user),
            "nats_token": bool(self.nats_token.get_secret_value()),
            "nats_creds": self.nats_creds is not None,
            "nats_nkey_seed": self.nats_nkey_seed is not None,
        }
        chosen = [name for name, is_given in given.items() if is_given]
        if len(chosen) > 1:
            raise ValueError(f"give one of {' and '.join(chosen)}, not more")
        if bool(self.nats_user) != bool(self.nats_password.get_secret_value()):
            raise ValueError("give nats_user and nats_password together")
        return self

    @model_validator(mode="after")
    def _one_jetstream(self) -> Self:
        if self.nats_domain and self.nats_api_prefix:
            raise ValueError("give nats_domain or nats_api_prefix, not both")
        return self

    @model_validator(mode="after")
    def _tls_files(self) -> Self:
        for name, files in (("redis_tls", self.redis_tls), ("nats_tls", self.nats_tls)):
            if files:
                files.check(name)
        return self

    @field_validator("redis_url")
    @classmethod
    def _redis(cls, value: str) -> str:
        scheme = urlsplit(value).scheme
        if scheme in SCHEMES:
            SentinelUrl.parse(value)
        elif scheme not in ("redis", "rediss"):
            raise ValueError(
                "write redis://host:port/database, or rediss:// for TLS; or, for Sentinels,"
                " sentinel://host:26379,other:26379/name/0"
            )
        return value

    @field_validator("broker_url")
    @classmethod
    def _broker(cls, value: str) -> str:
        if value:
            check_broker_url(value)
        return value

    @field_validator("tick", mode="after")
    @classmethod
    def _tick(cls, value: timedelta) -> timedelta:
        if value < _SHORTEST_TICK:
            raise ValueError("must be at least 10ms")
        return value

    @property
    def nats_place(self) -> NatsPlace:
        """The JetStream of tasks that name none."""
        return NatsPlace(tuple(self.nats_servers), self.nats_domain, self.nats_api_prefix)

    @property
    def redis_tls(self) -> TlsFiles:
        """Certificates for ``rediss://``."""
        return TlsFiles(self.redis_tls_ca, self.redis_tls_cert, self.redis_tls_key)

    @property
    def nats_tls(self) -> TlsFiles:
        """Certificates for NATS."""
        return TlsFiles(self.nats_tls_ca, self.nats_tls_cert, self.nats_tls_key)

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Without the passwords of URLs."""
        return ((name, masked(value)) for name, value in super().__repr_args__())

    @property
    def celery_broker_url(self) -> str:
        """The broker's URL, derived from ``redis_url`` where none is set."""
        if self.broker_url:
            return self.broker_url
        parts = urlsplit(self.redis_url)
        if parts.scheme in SCHEMES:
            return urlunsplit(parts._replace(path=f"/{SentinelUrl.parse(self.redis_url).name}/1"))
        return urlunsplit(parts._replace(path="/1"))


def load_settings(dotenv: Path | None = None) -> Settings:
    """Read and check the settings.

    Args:
        dotenv: a file of ``NAME=value`` lines, ``.env`` by default; the environment wins over it.

    Raises:
        ConfigError: a value or a file is wrong, or a ``SINFER_*`` name is unknown; those that
            Kubernetes sets for Services are left alone.
    """
    path = dotenv if dotenv is not None else Path(".env")
    in_file = [name for name in dotenv_values(path) if name.upper().startswith(PREFIX)]
    in_environment = [name for name in os.environ if name.upper().startswith(PREFIX)]
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    for name in sorted({*in_file, *in_environment}):
        if name.upper() in known or name.upper().removesuffix(_FILE) in known:
            continue
        if name not in in_file and is_service_link(name, os.environ[name], PREFIX):
            continue
        nearest = _nearest(name.upper().removeprefix(PREFIX))
        raise ConfigError(
            f"setting {name} is unknown; "
            + (f"did you mean {nearest}?" if nearest else "remove it, or see the README for all")
        )
    from_files = _from_files(path)
    try:
        return Settings(_env_file=path, **from_files)
    except ValidationError as error:
        raise ConfigError(_with_files(str(explain(error, _WHERE)), from_files)) from None


_WHERE = "settings (SINFER_*)"


def _with_files(text: str, from_files: Iterable[str]) -> str:
    """What is wrong with settings, with the files that some of them were read from."""
    for field in from_files:
        setting = f"{_WHERE}: {field}:"
        text = text.replace(setting, f"{setting} in the file of {PREFIX}{field.upper()}{_FILE}:")
    return text


def _nearest(name: str) -> str:
    """The setting that was meant by an unknown name, less the prefix; empty where none is near."""
    end = _FILE if name.endswith(_FILE) else ""
    stem = name.removesuffix(end)
    found = _MEANT.get(stem)
    if found is None:
        fields = [field.upper() for field in Settings.model_fields]
        found = next(iter(difflib.get_close_matches(stem, fields, n=1, cutoff=_NEAR)), None)
    return "" if found is None else f"{PREFIX}{found}{end}"


def _from_files(dotenv: Path) -> dict[str, Any]:
    """Settings whose values stand in files of their own, as mounted secrets do, by field.

    ``SINFER_REDIS_URL_FILE`` names the file that holds what ``SINFER_REDIS_URL`` would be.

    Raises:
        ConfigError: a file cannot be read, or the setting is given in both ways.
    """
    given = {**dotenv_values(dotenv), **os.environ}
    names = {name.upper(): value for name, value in given.items() if value}
    found: dict[str, Any] = {}
    for field in Settings.model_fields:
        name = PREFIX + field.upper()
        path = names.get(name + _FILE)
        if path is None:
            continue
        if name in names:
            raise ConfigError(f"give {name} or {name}{_FILE}, not both")
        try:
            found[field] = _content(Path(path), field)
        except ValueError as error:
            may_be_shown = "/" in path and "://" not in path
            reason = str(error) if may_be_shown else "it does not name a file that can be read"
            raise ConfigError(f"{name}{_FILE}: {reason}") from None
    return found


def _content(path: Path, field: str) -> str:
    """What a file says of a setting, without the marks that editors leave at its ends.

    Raises:
        ValueError: it cannot be read, or says nothing that could be meant.
    """
    content = read_file(path)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{str(path)!r} holds no text in UTF-8") from None
    text = text.strip("\r\n") if field in _SECRETS else text.strip()
    if field in _LISTS:
        text = ",".join(text.splitlines())
    if not text:
        raise ValueError(f"{str(path)!r} is empty; write the value into it")
    if not text.isprintable():
        raise ValueError(f"{str(path)!r} is not one line of plain text")
    return text


@lru_cache(maxsize=1)
def settings() -> Settings:
    """The settings of this process, read once."""
    return load_settings()


def unread(field: str, other: str) -> str:
    """What to tell of a server that does not answer, where nobody has said where it is but in a
    variable that sinfer does not read; else empty.

    Args:
        field: the setting, by its field.
        other: the variable.
    """
    if other not in os.environ or field in settings().model_fields_set:
        return ""
    return f" {other} is not read; set {PREFIX}{field.upper()}"
