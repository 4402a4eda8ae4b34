"""`sinfer check` tells apart why a model server is of no use, without asking the model."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sinfer.embedded.model_process import ModelServer
from sinfer.types.check import Checked
from tests.support.http_server import Exchange, ScriptedServer
from tests.support.secured import Certificates

TYPES = [
    {"type": "v2", "model": "m"},
    {"type": "tfserving", "model": "m"},
    {"type": "torchserve", "model": "m"},
    {"type": "openai_chat", "model": "m"},
    {"type": "json"},
]


@pytest.fixture(params=TYPES, ids=[settings["type"] for settings in TYPES])
def settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    return {**request.param, "timeout": "1s"}


async def checked(client: Callable[..., Any], **settings: Any) -> Checked:
    found: list[Checked] = await client(**settings).check()
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("status", "verdict", "words"),
    [
        (401, "error", "answers 401 Unauthorized: it refuses the credentials"),
        (403, "error", "answers 403 Forbidden: it refuses the credentials"),
        (503, "unreachable", "answers 503 Service Unavailable: it is not ready"),
        (500, "error", "500 Internal Server Error"),
        (429, "unreachable", "429 Too Many Requests"),
    ],
)
async def test_what_a_server_answers_is_told_apart(
    http_server: ScriptedServer,
    client: Callable[..., Any],
    settings: dict[str, Any],
    status: int,
    verdict: str,
    words: str,
) -> None:
    http_server.answer = lambda exchange: exchange.reply(status, b"{}")
    found = await checked(client, url=http_server.url, **settings)
    assert found.verdict == verdict
    assert words in found.text
    assert {request.method for request in http_server.requests} <= {"GET", "OPTIONS"}


async def test_a_model_that_is_missing_is_told(
    http_server: ScriptedServer, client: Callable[..., Any], settings: dict[str, Any]
) -> None:
    http_server.answer = lambda exchange: exchange.reply(404, b"{}")
    found = await checked(client, url=http_server.url, **settings)
    assert found.verdict == ("warning" if settings["type"] == "openai_chat" else "error")
    assert "answers 404 Not Found" in found.text
    if settings["type"] in ("v2", "tfserving"):
        assert "it has no model 'm'" in found.text


async def test_servers_that_are_not_there_are_told_apart(
    http_server: ScriptedServer, client: Callable[..., Any], settings: dict[str, Any]
) -> None:
    refused = await checked(client, url="http://127.0.0.1:1", **settings)
    assert (refused.verdict, refused.field) == ("unreachable", "url")
    assert "refuses connections: nothing listens there" in refused.text
    unnamed = await checked(client, url="http://no.such.host.invalid", **settings)
    assert "has a name that cannot be resolved" in unnamed.text
    no_tls = await checked(client, url=http_server.url.replace("http", "https"), **settings)
    assert (no_tls.verdict, no_tls.field) == ("error", "url")
    assert "breaks off TLS" in no_tls.text

    def hang_up(_: Exchange) -> None:
        http_server.drop_connections()

    http_server.answer = hang_up
    closing = await checked(client, url=http_server.url, **settings)
    assert "closes the connection without an answer" in closing.text
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        hanging = await checked(client, url=url, **settings)
    assert "does not answer in time" in hanging.text
    assert all(found.is_silent for found in (refused, unnamed, no_tls, closing, hanging))


async def test_a_certificate_that_is_not_trusted_is_told(
    client: Callable[..., Any], settings: dict[str, Any], tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.cert, certificates.key)
    async with ScriptedServer().listening(context) as server:
        found = await checked(client, url=server.url, **settings)
        assert (found.verdict, found.field) == ("error", "url")
        assert "shows a certificate that is not trusted" in found.text
        trusting = await checked(client, url=server.url, ca_file=certificates.ca, **settings)
    assert trusting.verdict in ("ok", "warning")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1", "refuses connections"),
        ("http://no.such.host.invalid", "has a name that cannot be resolved"),
        ("", "closes the connection without an answer"),
        ("tls", "breaks off TLS"),
    ],
    ids=["refused", "name", "no gRPC", "no TLS"],
)
async def test_servers_of_grpc_that_are_not_there_are_told_apart(
    http_server: ScriptedServer, client: Callable[..., Any], url: str, words: str
) -> None:
    if not url.startswith("http:"):
        url = http_server.url.replace("http", "https" if url else "http")
    found = await checked(client, type="v2", transport="grpc", model="m", url=url, timeout="2s")
    assert words in found.text


def states(*names: str) -> dict[str, Any]:
    return {"model_version_status": [{"version": "1", "state": name} for name in names]}


@pytest.mark.parametrize(
    ("settings", "body", "verdict", "words"),
    [
        ({"type": "v2"}, {"ready": False, "name": "m"}, "unreachable", "'m' is not ready"),
        ({"type": "v2"}, {"name": "m"}, "ok", "model 'm' is ready"),
        ({"type": "tfserving"}, states("LOADING"), "unreachable", "is not ready: LOADING"),
        ({"type": "tfserving"}, states("END", "AVAILABLE"), "ok", "is available"),
        ({"type": "openai_chat"}, {"data": [{"id": "m"}]}, "ok", "lists 'm'"),
        ({"type": "openai_chat"}, {"data": [{"id": "o"}]}, "warning", "does not list 'm' (but o)"),
        ({"type": "openai_embeddings"}, {"data": [{"id": "m"}]}, "ok", "lists 'm'"),
    ],
)
async def test_a_model_that_is_not_ready_is_told_from_one_that_is(
    http_server: ScriptedServer,
    client: Callable[..., Any],
    settings: dict[str, Any],
    body: Any,
    verdict: str,
    words: str,
) -> None:
    http_server.body = body
    found = await checked(client, url=http_server.url, model="m", **settings)
    assert found.verdict == verdict
    assert words in found.text


async def test_a_server_that_knows_no_readiness_is_asked_for_the_model(
    http_server: ScriptedServer, client: Callable[..., Any]
) -> None:
    def answer(exchange: Exchange) -> None:
        if exchange.path.endswith("/ready"):
            exchange.reply(404, b"{}")
        else:
            exchange.reply(200, b'{"name": "m"}')

    http_server.answer = answer
    assert (await checked(client, type="v2", url=http_server.url, model="m")).verdict == "ok"


async def test_a_real_model_is_found_and_is_not_called(
    model_server: ModelServer, client: Callable[..., Any]
) -> None:
    found = await checked(client, type="v2", url=model_server.url, model="nothing")
    assert "it has no model 'nothing'" in found.text
