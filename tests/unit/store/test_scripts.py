"""Every script opens with its keys and arguments as a table, and shares what others need too."""

from __future__ import annotations

import re
from collections import Counter
from importlib.resources import files

import pytest

from sinfer.store.lua import SCRIPTS

PRELUDE = (files("sinfer.store") / "prelude.lua").read_text()
ROW = r"--     (?:  \d+(?:\.\.)?  .*|   +\S.*)\n"
HEADER = re.compile(
    r"#!lua(?: flags=allow-oom)?\n"
    r"-- [A-Z].*\n(?:--.*\n)*?--\n"
    rf"-- KEYS  1  .*\n(?:{ROW})*"
    rf"-- ARGV  (?:1(?:\.\.)?  .*|none)\n(?:{ROW})*"
    r"(?!-- (?:KEYS|ARGV))"
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_opens_with_what_it_does_its_keys_and_its_arguments(name: str) -> None:
    assert HEADER.match(SCRIPTS[name])


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_named_by_what_it_does_to_what(name: str) -> None:
    assert re.fullmatch(r"[a-z]+(_[a-z]+)+", name)


def test_what_two_scripts_need_is_in_the_prelude() -> None:
    defined = Counter(
        function
        for text in SCRIPTS.values()
        for function in re.findall(r"^local function (\w+)", text, re.MULTILINE)
    )
    shared = set(re.findall(r"^local function (\w+)", PRELUDE, re.MULTILINE))
    assert [name for name, times in defined.items() if times > 1 or name in shared] == []
    for name in shared:
        behind = PRELUDE.partition(f"local function {name}(")[2]
        assert any(f"{name}(" in text for text in (*SCRIPTS.values(), behind)), name


def test_the_time_and_hints_are_known_to_the_prelude_alone() -> None:
    for name, text in SCRIPTS.items():
        code = re.sub("--.*", "", text)
        assert "'TIME'" not in code, f"{name}: call now_of"
        assert not re.search(r"'hint(ed|_until|_name)?'", code), f"{name}: call promise"
