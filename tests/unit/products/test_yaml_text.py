"""YAML that would end or stall the process is refused before anything is made of it."""

from __future__ import annotations

import pytest
import yaml

from sinfer.products.yaml_text import load_yaml


def test_aliases_and_merged_parts_are_what_they_stand_for() -> None:
    text = b"base: &base {a: 1, b: [2, 3]}\nother: {<<: *base, a: 4}\nsame: *base"
    assert load_yaml(text) == {
        "base": {"a": 1, "b": [2, 3]},
        "other": {"a": 4, "b": [2, 3]},
        "same": {"a": 1, "b": [2, 3]},
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"[" * 100_000, "more than 100 levels"),
        (b"- " * 50_000, "more than 100 levels"),
        (b"id: &a [1, *a]", r"\*a stands within what it stands for"),
        (
            b"a0: &a0 [x]\n"
            + b"".join(
                b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 9))
                for n in range(1, 9)
            ),
            "more than 1000000 values",
        ),
    ],
    ids=["deep", "deep in block style", "in itself", "a billion laughs"],
)
def test_what_nobody_writes_for_tasks_is_refused(text: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        load_yaml(text)


@pytest.mark.parametrize(
    "text", [b"\t{", b"*nowhere", b"!!python/object/apply:os.getpid []", b"\0"]
)
def test_what_is_no_plain_yaml_is_refused(text: bytes) -> None:
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
