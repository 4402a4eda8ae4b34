"""Parts that a configuration selects by ``type:``, shipped by sinfer or by a product."""

from __future__ import annotations

import builtins
import difflib
from abc import ABC
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import core_schema

from sinfer.config.model import ConfigModel
from sinfer.hooks.call import made

C = TypeVar("C", bound=ConfigModel)


class Plugin(ABC, Generic[C]):
    """A class that a configuration can name.

    A subclass gives its ``type`` and the model of its settings::

        class MySink(Sink):
            type = "mine"

            class Config(SinkConfig):
                path: str

    Attributes:
        kind: what the plugins of this family are called in errors.
        type: the name that a configuration uses; empty for abstract classes.
        Config: the model of its settings.
    """

    kind: ClassVar[str]
    type: ClassVar[str] = ""
    Config: ClassVar[builtins.type[ConfigModel]]
    registry: ClassVar[dict[str, builtins.type[Plugin[Any]]]]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if Plugin in cls.__bases__:
            cls.registry = {}
        elif cls.__dict__.get("type"):
            cls.registry[cls.type] = cls

    @classmethod
    def validator(cls) -> Callable[[Any], Any]:
        """For pydantic: turns ``{"type": ...}`` into the ``Config`` of the plugin so named."""

        def select(value: Any) -> Any:
            if isinstance(value, ConfigModel):
                return value
            if not isinstance(value, dict) or "type" not in value:
                raise ValueError(f"is a mapping with a 'type' (one of {', '.join(cls.registry)})")
            name = value["type"]
            plugin = cls.registry.get(name) if isinstance(name, str) else None
            if plugin is None:
                nearest = difflib.get_close_matches(str(value["type"]), cls.registry, n=1)
                hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
                raise ValueError(
                    f"{cls.kind} type {value['type']!r} is unknown{hint}"
                    f" (known: {', '.join(sorted(cls.registry))})"
                )
            return plugin.Config.model_validate(value)

        return select

    @classmethod
    def selected(cls) -> Any:
        """For ``Annotated``: as ``validator``, with the settings of all plugins in the schema."""
        return _Selected(cls)

    @classmethod
    def class_for(cls, config: ConfigModel) -> builtins.type[Any]:
        """The plugin class that a configuration selects."""
        return cls.registry[config.type].fitting(config)  # type: ignore[attr-defined]

    @classmethod
    def fitting(cls, config: Any) -> builtins.type[Any]:
        """The class for a configuration of this type: this one, unless it has several to choose."""
        return cls

    @classmethod
    def make(cls, config: ConfigModel, what: str, **more: Any) -> Any:
        """Make what a configuration selects.

        Args:
            config: the configuration.
            what: what it is, as errors call it.
            more: further arguments of its class.

        Raises:
            ConfigError: it cannot be made; a product may have written it.
        """
        return made(what, cls.class_for(config), config, **more)


class _Selected:
    """Validates by the plugin that ``type`` names; its JSON schema is one of those of all."""

    def __init__(self, base: type[Plugin[Any]]) -> None:
        self._base = base

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(
            self._base.validator(), handler(source)
        )

    def __get_pydantic_json_schema__(
        self, _: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        registry = self._base.registry
        schemas = []
        for name in sorted(registry):
            schema = handler(registry[name].Config.__pydantic_core_schema__)
            properties = schema.get("properties", {})
            selecting = {**properties.get("type", {}), "const": name, "type": "string"}
            schemas.append(
                {
                    **schema,
                    "properties": {**properties, "type": selecting},
                    "required": list(dict.fromkeys(["type", *schema.get("required", [])])),
                }
            )
        return {"oneOf": schemas}
