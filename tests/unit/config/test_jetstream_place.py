"""Where JetStream is stands in one place of a configuration, and one place of the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sinfer import ConfigError
from sinfer.config.jetstream_place import NatsPlace
from sinfer.config.model import explain
from sinfer.nats.config import JetStreamPart
from sinfer.settings import settings
from sinfer.sinks import JetStreamSink
from sinfer.source.config import JetStreamSource

ROOT = Path(__file__).parents[3] / "sinfer"


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("SERVERS", "DOMAIN", "API_PREFIX"):
        monkeypatch.delenv(f"SINFER_NATS_{name}", raising=False)
    settings.cache_clear()

    def take(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(f"SINFER_NATS_{name}", value)
        settings.cache_clear()

    yield take
    settings.cache_clear()


def test_the_settings_say_it_for_parts_that_say_nothing(variables: Any) -> None:
    variables(SERVERS="nats://hub:4222", DOMAIN="leaf")
    usual = NatsPlace(("nats://hub:4222",), "leaf")
    assert JetStreamSource(stream="S").place == usual
    assert JetStreamSink.Config(subject="out").place == usual
    assert usual.api_prefix == "$JS.leaf.API"


def test_a_domain_belongs_to_its_servers(variables: Any) -> None:
    variables(SERVERS="nats://hub:4222", DOMAIN="leaf")
    assert JetStreamPart(servers=["nats://a"]).place == NatsPlace(("nats://a",))
    assert JetStreamPart(domain="b").place == NatsPlace(("nats://hub:4222",), "b")
    imported = JetStreamPart(api_prefix="JS.c.API.>").place
    assert imported == NatsPlace(("nats://hub:4222",), prefix="JS.c.API")
    assert imported.api_prefix == "JS.c.API"


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"domain": "a.b"}, "domain"),
        ({"domain": "$JS"}, "domain"),
        ({"api_prefix": "JS.*"}, "stands for $JS.API"),
        ({"api_prefix": "J S"}, "stands for $JS.API"),
        ({"domain": "a", "api_prefix": "b"}, "give domain or api_prefix, not both"),
    ],
)
def test_what_is_neither_a_domain_nor_a_prefix_is_refused(part: Any, told: str) -> None:
    with pytest.raises(ValueError) as error:
        JetStreamPart(**part)
    assert told in str(explain(error.value, "task", part))  # type: ignore[arg-type]


def test_a_domain_and_a_prefix_in_the_settings_are_refused(variables: Any) -> None:
    variables(DOMAIN="a", API_PREFIX="b")
    with pytest.raises(ConfigError, match="give nats_domain or nats_api_prefix, not both"):
        settings()


def test_no_other_code_knows_what_requests_begin_with_or_which_servers_are_usual() -> None:
    """So that none can forget the domain."""
    told = {"$JS.API": {"jetstream_place.py"}, ".nats_servers": {"settings.py", "__main__.py"}}
    for text, files in told.items():
        knowing = {
            path.name
            for path in ROOT.rglob("*.py")
            for line in path.read_text().splitlines()
            if text in line.partition("``")[0] and not line.lstrip().startswith(("#", '"""'))
        }
        assert knowing == files, text
