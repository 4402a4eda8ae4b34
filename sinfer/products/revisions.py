"""Revisions of a task: how a configuration is kept beside its windows, and read again.

Windows outlive configurations: a task may change or go while windows of it wait. So the ingest
keeps a task's configuration with each partition, and notes on each window what it was opened under.

A configuration has two halves. Its *meaning* is the ``window:`` part and the product's own
settings: what the messages of a window are taken for. The rest says how the work is done: source,
model, sinks, limits. A window is processed under its own meaning, but with the newest of the rest,
so that a corrected URL helps windows that wait already.

Secrets are never kept: references such as ``${NAME}`` stay as they are, and what was written in
clear is left out, and taken from the worker's own task manager when it is needed.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from pydantic import SecretStr, ValidationError

from sinfer.config.model import explain
from sinfer.config.secret import KEPT, NOT_STORED, STORING, storable
from sinfer.errors import ConfigError
from sinfer.products.task import InferTaskConfig

_OPERATIONAL = ("source", "inference", "sinks", "fallback", "dead_letter_subject", "limits")


class Revision(NamedTuple):
    """A configuration as it is kept.

    Attributes:
        meaning: checksum of the half that windows are bound to.
        text: the whole as JSON.
    """

    meaning: str
    text: str

    def pack(self) -> str:
        """As one text, for the store."""
        return f"{self.meaning} {self.text}"

    @classmethod
    def unpack(cls, packed: str) -> Revision:
        """The inverse of ``pack``."""
        meaning, _, text = packed.partition(" ")
        return cls(meaning, text)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings in it; what is not stored is marked.

        Raises:
            ConfigError: they cannot be read.
        """
        try:
            return msgspec.json.decode(self.text, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
            raise ConfigError(f"a task as it is kept with its windows: {error}") from None


def revision_of(task: InferTaskConfig) -> Revision:
    """A task's configuration in the form that is kept."""
    settings = _dump(task)
    meaning = {name: value for name, value in settings.items() if name not in _OPERATIONAL}
    checksum = blake2b(_encode(meaning), digest_size=4).hexdigest()
    return Revision(checksum, _encode(settings).decode())


def task_of(
    task_type: type[InferTaskConfig],
    revision: Revision,
    newest: Revision | None = None,
    own: InferTaskConfig | None = None,
) -> InferTaskConfig:
    """The task to process a window with.

    Args:
        task_type: the product's task class.
        revision: what the window was opened under.
        newest: of the task, where it has changed since.
        own: the task as this process knows it by its own task manager, for secrets that are not
            stored.

    Raises:
        ConfigError: the stored settings are not valid any more, or a secret is missing.
    """
    settings = revision.settings
    if newest is not None:
        changed = newest.settings
        together = {k: v for k, v in settings.items() if k not in _OPERATIONAL}
        together |= {k: v for k, v in changed.items() if k in _OPERATIONAL}
        try:
            return _validated(task_type, together, own)
        except ConfigError:  # the halves do not go together
            pass
    return _validated(task_type, settings, own)


def keeps(task: InferTaskConfig, revision: Revision) -> bool:
    """Whether a task can be made of what is kept of it; secrets in clear are left aside.

    It cannot where settings are objects of Python that have no form in JSON.
    """
    try:
        return _dump(_validated(type(task), revision.settings, task)) == revision.settings
    except ConfigError:
        return False


def _encode(value: Any) -> bytes:
    return msgspec.json.encode(value, order="sorted")


def _dump(task: InferTaskConfig) -> dict[str, Any]:
    settings = task.model_dump(mode="json", exclude_unset=True, by_alias=True, context=STORING)
    # What was made in code may have left its type to the default.
    settings["inference"]["type"] = task.inference.type
    for stored, sink in zip(settings["sinks"], task.sinks, strict=True):
        stored["type"] = sink.type
    if task.fallback is not None:
        settings["fallback"]["type"] = task.fallback.type
    settings["source"].pop("servers", None)  # may hold credentials, and only the ingest needs it
    without_secrets: dict[str, Any] = _without_credentials(settings)
    return without_secrets


def _without_credentials(value: Any) -> Any:
    """Settings without URLs that hold a password in clear."""
    if isinstance(value, dict):
        return {name: _without_credentials(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_without_credentials(part) for part in value]
    if isinstance(value, str) and "://" in value:
        return storable(value)
    return value


def _validated(
    task_type: type[InferTaskConfig], settings: dict[str, Any], own: InferTaskConfig | None
) -> InferTaskConfig:
    known = None if own is None else own.model_dump(exclude_unset=True, by_alias=True)
    missing: list[str] = []
    filled = _fill(settings, known, "", missing)
    where = f"task {settings.get('id')!r}"
    if missing:
        raise ConfigError(
            f"{where}: {', '.join(missing)}: is written in clear, so it is not kept with the"
            " windows, and this process does not know the task; write it as ${NAME}"
        )
    try:
        return task_type.model_validate(filled, context=KEPT)
    except ValidationError as error:
        raise explain(error, f"{where}, as it is kept with its windows", filled) from None


def _fill(value: Any, known: Any, place: str, missing: list[str]) -> Any:
    """Settings with secrets from those that this process knows."""
    if value == NOT_STORED:
        if not isinstance(known, str | SecretStr):
            missing.append(place)
        return known
    if isinstance(value, dict):
        parts = known if isinstance(known, dict) else {}
        return {k: _fill(v, parts.get(k), _join(place, k), missing) for k, v in value.items()}
    if isinstance(value, list):
        items = (
            known if isinstance(known, list) and len(known) == len(value) else [None] * len(value)
        )
        return [_fill(v, items[i], _join(place, str(i)), missing) for i, v in enumerate(value)]
    return value


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name
