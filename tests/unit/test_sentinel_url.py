"""The URL of a Redis that fails over."""

from __future__ import annotations

import pytest

from sinfer.config.sentinel_url import SentinelUrl
from sinfer.errors import ConfigError
from sinfer.settings import load_settings, settings
from sinfer.store.connection import Store
from sinfer.tasks.application import make_app, shown_broker


def test_it_names_sentinels_a_primary_and_a_database() -> None:
    found = SentinelUrl.parse("sentinel://u:p%40ss@a:1,b,[::1]:3/main/2?sentinel_password=s")
    assert found.sentinels == (("a", 1), ("b", 26379), ("::1", 3))
    assert (found.name, found.database) == ("main", 2)
    assert (found.username, found.password) == ("u", "p@ss")
    assert (found.sentinel_username, found.sentinel_password) == (None, "s")
    assert not found.has_tls
    assert SentinelUrl.parse("sentinels://a/main").has_tls


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sentinel://a:1", "names no primary"),
        ("sentinel:///main", "names no Sentinel"),
        ("sentinel://a:1,:2/main", "':2' is no host and port"),
        ("sentinel://a:x/main", "'a:x' is no host and port"),
        ("sentinel://a:1/main/x", "'x' is no number of a database"),
        ("sentinel://a:1/main?pasword=x", "'pasword' is none of"),
        ("sentinel://a:1;sentinel://b:1/main", "commas, not ';'"),
    ],
)
@pytest.mark.parametrize("name", ["SINFER_REDIS_URL", "SINFER_BROKER_URL"])
def test_what_is_none_is_refused_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str, name: str
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert told in str(caught.value)
    assert name.lower().removeprefix("sinfer_") in str(caught.value).lower()


def test_the_broker_is_beside_the_store_and_no_password_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = "sentinel://u:secret@a:1,b:2/main/0?sentinel_password=hidden"
    monkeypatch.setenv("SINFER_REDIS_URL", url)
    settings.cache_clear()
    try:
        app = make_app([])
        assert app.conf.broker_url == "sentinel://u:secret@a:1/1;sentinel://u:secret@b:2/1"
        options = app.conf.broker_transport_options
        assert options["master_name"] == "main"
        assert options["sentinel_kwargs"]["password"] == "hidden"
        assert shown_broker() == "sentinel://a:1,b:2/main/1"
        assert Store.from_settings().shown_url == "sentinel://a:1,b:2/main/0"
        assert "secret" not in repr(settings())
        assert "hidden" not in repr(settings())
    finally:
        settings.cache_clear()
