"""Reading YAML that anybody may have written: nothing in it can end or stall the process."""

from __future__ import annotations

from typing import Any

import yaml

_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_DEEPEST = 100
"""Levels of parts within parts. The C loader recurses: thousands would end the process."""

_MOST_NODES = 1_000_000
"""Values in a document, aliases counted as what they stand for, which can be astronomic."""


def load_yaml(data: bytes) -> Any:
    """The one document in a text.

    Raises:
        ValueError, yaml.YAMLError: it is none, or one that nobody writes for tasks.
    """
    _check(data)
    return yaml.load(data, _Loader)


def _check(data: bytes) -> None:
    """Measure a document by its events, of which each is read without recursion.

    Raises:
        ValueError: it is too deep or too large, or holds itself.
        yaml.YAMLError: it is no YAML.
    """
    sizes: dict[str, int] = {}
    parents: list[tuple[str | None, int]] = []  # the anchor of an open node, the nodes before it
    nodes = 0
    for event in yaml.parse(data, _Loader):
        if isinstance(event, yaml.AliasEvent):
            name = str(event.anchor)
            if any(anchor == name for anchor, _ in parents):
                raise ValueError(f"*{name} stands within what it stands for")
            nodes += sizes.get(name, 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            parents.append((event.anchor, nodes))
            nodes += 1
            if len(parents) > _DEEPEST:
                raise ValueError(f"more than {_DEEPEST} levels of parts within parts")
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = parents.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
        if nodes > _MOST_NODES:
            raise ValueError(f"more than {_MOST_NODES} values, aliases counted in full")
