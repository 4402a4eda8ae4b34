"""Secrets are taken out of texts, wherever they stand and however they were sent."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import httpx
import pytest

from sinfer.config.model import ConfigModel
from sinfer.config.secret import STORING, Secret, storable
from sinfer.inference.http_errors import error_of_status, invalid_response
from sinfer.logging.masking import hide, masked
from sinfer.windows.dead_letters import one_line

BASIC = b64encode(b"me:s3cret").decode()


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("s3cret", "no s3cret here"),
        ("Bearer s3cret", "token s3cret is not valid"),
        ("Bearer s3cret", "got Bearer s3cret"),
        (f"Basic {BASIC}", f"got {BASIC}"),
        (f"Basic {BASIC}", "s3cret of me is wrong"),
        ("s3%63ret", "decoded: s3cret"),
    ],
)
def test_a_secret_is_hidden_in_every_form(secret: str, text: str) -> None:
    hidden = hide(text, [secret])
    assert "***" in hidden
    assert "s3cret" not in hidden
    assert BASIC not in hidden


def test_what_is_too_short_to_tell_apart_stays() -> None:
    assert hide("a b c", ["a", "", "Bearer b"]) == "a b c"


@pytest.mark.parametrize("make", [error_of_status, "invalid"])
def test_an_answer_is_quoted_without_what_the_request_carried(make: Any) -> None:
    request = httpx.Request(
        "POST", "http://m/?key=k3y-in-url", headers={"X-Api-Key": "s3cret", "Accept": "visible"}
    )
    body = b"refused s3cret for k3y-in-url, visible"
    response = httpx.Response(401, content=body, request=request)
    if make == "invalid":
        error: Exception = invalid_response(response, "POST http://m/", "no JSON")
    else:
        error = make(response, "POST http://m/")
    assert str(error).endswith("refused *** for ***, visible")


def test_a_configuration_shows_no_secret_of_a_url_at_any_depth() -> None:
    class Part(ConfigModel):
        servers: list[str]
        options: dict[str, Any]
        token: Secret

    part = Part(
        servers=["nats://u:s3cret@h"],
        options={"a": {"b": ["http://h/?token=s3cret"]}},
        token="s3cret",
    )
    assert "s3cret" not in f"{part!r} {part} {[part]}"
    assert masked({"n": 1}) == {"n": 1}
    assert part.model_dump(context=STORING)["servers"] == ["nats://u:s3cret@h"]


def test_a_dead_letter_says_why_without_the_secrets_of_urls() -> None:
    assert one_line("cannot read postgresql://u:s3cret@db/x") == "cannot read postgresql://***@db/x"


def test_a_url_with_a_secret_parameter_is_kept_as_a_reference_only() -> None:
    assert storable("https://h/?token=${TOKEN}&n=1") == "https://h/?token=${TOKEN}&n=1"
    assert storable("https://h/?n=1") == "https://h/?n=1"
    assert isinstance(storable("https://h/?token=s3cret"), dict)
