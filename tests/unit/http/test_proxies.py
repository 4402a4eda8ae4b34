"""Which proxy a call goes through: by one rule, and with the name of who says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from pydantic import TypeAdapter, ValidationError

from sinfer import ConfigError
from sinfer.config.proxy import Proxy
from sinfer.config.secret import STORING
from sinfer.http import proxies
from sinfer.http.proxies import is_exempt, proxy_for
from sinfer.inference.http import HttpConfig
from sinfer.settings import settings

VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "grpc_proxy", "sinfer_proxy")


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets the variables that are given, and no others."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    settings.cache_clear()

    def take(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        settings.cache_clear()

    yield take
    settings.cache_clear()


def found(url: str, choice: Any = None, first: tuple[str, ...] = ()) -> str | None:
    """What is asked for a URL, with credentials, and who says so."""
    chosen = TypeAdapter(Proxy | None).validate_python(choice)
    proxy = proxy_for(httpx.URL(url), chosen, "inference.proxy", first=first)
    return None if proxy is None else f"{proxy.url} {proxy.origin}"


Environment = Callable[..., None]


def test_nothing_is_asked_where_nobody_names_a_proxy(environment: Environment) -> None:
    assert found("http://m") is None


@pytest.mark.parametrize(
    ("url", "variables", "expected"),
    [
        ("http://m", {"HTTP_PROXY": "http://p:1"}, "http://p:1 HTTP_PROXY"),
        ("https://m", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://m", {"HTTPS_PROXY": "http://p:1"}, "http://p:1 HTTPS_PROXY"),
        ("http://m", {"ALL_PROXY": "p:1"}, "http://p:1 ALL_PROXY"),
        ("http://m", {"ALL_PROXY": "http://a", "HTTP_PROXY": "http://b"}, "http://b HTTP_PROXY"),
        ("http://m", {"http_proxy": "http://a", "HTTP_PROXY": "http://b"}, "http://a http_proxy"),
        ("http://m", {"http_proxy": "", "HTTP_PROXY": "http://b"}, None),
        ("http://m", {"HTTP_PROXY": " "}, None),
        ("http://m", {"ALL_PROXY": "socks://p:1"}, "socks5://p:1 ALL_PROXY"),
        ("http://m", {"HTTP_PROXY": "http://u:pw@p:1"}, "http://u:pw@p:1 HTTP_PROXY"),
        ("http://m", {"HTTP_PROXY": "http://p:1", "NO_PROXY": "m"}, None),
        ("http://m", {"SINFER_PROXY": "none", "HTTP_PROXY": "http://p:1"}, None),
        ("http://m", {"SINFER_PROXY": "", "HTTP_PROXY": "http://p"}, "http://p HTTP_PROXY"),
        ("http://m", {"SINFER_PROXY": "http://q:2"}, "http://q:2 SINFER_PROXY"),
        ("http://m", {"SINFER_PROXY": "http://q:2", "NO_PROXY": "m"}, None),
    ],
)
def test_the_environment_says_what_is_asked(
    environment: Environment, url: str, variables: dict[str, str], expected: str | None
) -> None:
    environment(**variables)
    assert found(url) == expected


def test_the_task_says_it_before_all_else(environment: Environment) -> None:
    environment(HTTP_PROXY="http://p:1", SINFER_PROXY="http://q:2", NO_PROXY="m,n")
    assert found("http://m", "http://mine:3") == "http://mine:3 inference.proxy"
    assert found("http://x", "none") is None
    assert found("http://x", False) is None  # `proxy: no` in YAML
    assert found("http://x", "environment") == "http://p:1 HTTP_PROXY"
    assert found("http://x") == "http://q:2 SINFER_PROXY"


def test_grpc_has_a_variable_of_its_own(environment: Environment) -> None:
    environment(HTTP_PROXY="http://p:1", GRPC_PROXY="http://g:2")
    assert found("http://m") == "http://p:1 HTTP_PROXY"
    assert found("http://m", first=("grpc_proxy",)) == "http://g:2 GRPC_PROXY"


@pytest.mark.parametrize(
    "value", ["::::", "http://", "http://h:port", "socks4://h", "ftp://h", "http://h:99999", "a b"]
)
def test_what_is_no_proxy_is_told_with_its_variable_and_without_what_it_holds(
    environment: Environment, value: str
) -> None:
    environment(HTTPS_PROXY=value)
    with pytest.raises(ConfigError) as error:
        found("https://m")
    assert str(error.value) == (
        "HTTPS_PROXY is no URL of a proxy: write http://host:port, https://, socks5:// or"
        " socks5h://; or set inference.proxy: none to do without"
    )


def test_a_missing_extra_for_socks_is_named(
    environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proxies, "find_spec", lambda name: None)
    environment(ALL_PROXY="socks5://u:secret@p:1080")
    with pytest.raises(ConfigError) as error:
        found("http://m")
    assert "the proxy socks5://p:1080 of ALL_PROXY speaks SOCKS" in str(error.value)
    assert "pip install 'sinfer[socks]'" in str(error.value)
    assert "inference.proxy: none" in str(error.value)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("*", "http://any"),
        ("example.com", "http://example.com"),
        ("example.com", "https://api.example.com:8443"),
        (".example.com", "http://api.example.com"),
        (".example.com", "http://example.com"),
        ("*.example.com", "http://api.example.com"),
        ("EXAMPLE.com.", "http://example.COM"),
        ("a, b  c", "http://c"),
        ("m:8000", "http://m:8000"),
        ("m:80", "http://m"),
        ("m:443", "https://m"),
        ("http://m", "http://m"),
        ("10.0.0.0/8", "http://10.1.2.3:8000"),
        ("10.1.2.3/8", "http://10.9.9.9"),
        ("10.1.2.3", "http://10.1.2.3"),
        ("10.*", "http://10.1.2.3"),
        ("fd00::/8", "http://[fd00::1]:8000"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("::1", "http://[::1]"),
        (".svc", "http://model.ns.svc"),
        ("a:b:c, [::, /, :, @, ://, m", "http://m"),
    ],
)
def test_what_no_proxy_is_about_is_called_directly(entry: str, url: str) -> None:
    assert is_exempt(httpx.URL(url), entry)


@pytest.mark.parametrize(
    ("entry", "url"),
    [
        ("", "http://m"),
        ("example.com", "http://badexample.com"),
        ("example.com", "http://example.com.evil.org"),
        ("m:8000", "http://m:8001"),
        ("m:443", "http://m"),
        ("10.0.0.0/8", "http://11.1.2.3"),
        ("10.0.0.0/8", "http://ten"),
        ("a:b:c, [::, /, :, ., @, ://", "http://m"),
        ("[::1]:8001", "http://[::1]:8000"),
    ],
)
def test_what_it_is_not_about_is_not(entry: str, url: str) -> None:
    assert not is_exempt(httpx.URL(url), entry)


class Config(HttpConfig):
    """A client's settings."""

    type: str = "x"
    url: str = "http://m"


def test_a_proxy_in_a_task_is_masked_and_stored_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PROXY_LOGIN", "u:hunter2")
    written = Config(proxy="http://u:hunter2@p:1")
    refers = Config(proxy="http://${PROXY_LOGIN}@p:1")
    for config in (written, refers):
        assert config.proxy is not None
        assert config.proxy.get_secret_value() == "http://u:hunter2@p:1"
        assert "hunter2" not in repr(config)
        assert config.model_dump(mode="json")["proxy"] == "http://***@p:1"
        assert "hunter2" not in config.model_dump_json(context=STORING)
    for choice in ("none", "environment", "http://p:1", "http://${PROXY_LOGIN}@p:1"):
        kept = Config(proxy=choice).model_dump(mode="json", context=STORING)["proxy"]
        assert kept == choice
        assert Config(proxy=kept) == Config(proxy=choice)


def test_a_task_with_no_proxy_at_all_is_refused_without_a_word_of_it() -> None:
    with pytest.raises(ValidationError, match="is no URL of a proxy"):
        Config(proxy="secret:::")
