"""Redis that demands users and TLS: let in with the right ones, told why not else."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from sinfer.config.tls import NO_FILES, TlsFiles
from sinfer.embedded.servers import RedisServer
from sinfer.errors import AccessError, UnavailableError
from sinfer.operations.preflight.servers import check_broker
from sinfer.settings import settings
from sinfer.sinks.redis_stream.sink import RedisStreamSink
from sinfer.store.connection import Store
from sinfer.tasks.application import make_app
from tests.support.secured import Certificates, TlsProxy, acl_server
from tests.support.window_results import window_results

pytestmark = pytest.mark.integration

USER = "sinfer on >s3cret ~* &* +@all"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with acl_server(tmp_path_factory.mktemp("redis"), USER, "weak on >x ~* +ping") as server:
        yield server


@pytest.fixture(scope="module")
def proxy(server: RedisServer, certificates: Certificates) -> Iterator[TlsProxy]:
    with TlsProxy(server.port, certificates) as proxy:
        yield proxy


@pytest.fixture
def secured(
    monkeypatch: pytest.MonkeyPatch, proxy: TlsProxy, certificates: Certificates
) -> Iterator[pytest.MonkeyPatch]:
    """The settings that lead to the server, by way of TLS."""
    url = f"rediss://sinfer:s3cret@127.0.0.1:{proxy.port}/0"
    monkeypatch.setenv("SINFER_REDIS_URL", url)
    monkeypatch.setenv("SINFER_REDIS_TLS_CA", str(certificates.ca))
    monkeypatch.setenv("SINFER_REDIS_TLS_CERT", str(certificates.client))
    settings.cache_clear()
    yield monkeypatch
    settings.cache_clear()


async def ask(url: str, tls: TlsFiles = NO_FILES) -> None:
    store = Store(url, tls)
    try:
        await store.now_ms()
    finally:
        await store.aclose()


async def refused(url: str, tls: TlsFiles = NO_FILES) -> str:
    with pytest.raises(AccessError) as caught:
        await ask(url, tls)
    return str(caught.value)


def publish() -> None:
    with make_app([]).connection_for_write() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        connection.SimpleQueue("q").put({})


@pytest.mark.usefixtures("secured")
async def test_store_and_broker_use_a_user_and_certificates() -> None:
    store = Store.from_settings()
    await store.now_ms()
    await store.aclose()
    await asyncio.to_thread(publish)
    assert (await check_broker()).verdict == "ok"


async def test_a_wrong_password_is_told_without_it(server: RedisServer) -> None:
    text = await refused(f"redis://sinfer:hunter2@127.0.0.1:{server.port}")
    assert "refuses the user or password" in text
    assert "SINFER_REDIS_URL" in text
    assert "hunter2" not in text


async def test_no_password_at_all_is_told(server: RedisServer) -> None:
    assert "refuses the user or password" in await refused(server.url)


async def test_a_command_that_is_not_permitted_is_told(server: RedisServer) -> None:
    text = await refused(f"redis://weak:x@127.0.0.1:{server.port}")
    assert "'evalsha'" in text
    assert "docs/security.md" in text


async def test_a_server_of_another_ca_is_not_trusted(
    proxy: TlsProxy, certificates: Certificates
) -> None:
    url = f"rediss://127.0.0.1:{proxy.port}"
    text = await refused(url, TlsFiles(certificates.other_ca, certificates.client))
    assert "certificate that is not accepted" in text
    assert "SINFER_REDIS_TLS_CA" in text


async def test_a_client_without_its_certificate_is_told_which_setting_has_it(
    proxy: TlsProxy, certificates: Certificates
) -> None:
    with pytest.raises(UnavailableError, match="SINFER_REDIS_TLS_CERT"):
        await ask(f"rediss://127.0.0.1:{proxy.port}", TlsFiles(certificates.ca))


async def test_a_server_without_tls_is_told(server: RedisServer) -> None:
    with pytest.raises(UnavailableError, match=r"is it running\? with TLS"):
        await ask(f"rediss://127.0.0.1:{server.port}")


async def test_the_broker_trusts_no_certificate_of_another_ca(
    secured: pytest.MonkeyPatch, certificates: Certificates
) -> None:
    secured.setenv("SINFER_REDIS_TLS_CA", str(certificates.other_ca))
    settings.cache_clear()
    finding = await check_broker()
    assert finding.verdict == "error"
    assert "SINFER_REDIS_TLS_CA" in finding.text


@pytest.mark.usefixtures("secured")
async def test_the_broker_may_be_another_server(secured: pytest.MonkeyPatch) -> None:
    with RedisServer(config={"requirepass": "b"}) as other:
        secured.setenv("SINFER_BROKER_URL", f"redis://:b@127.0.0.1:{other.port}/1")
        settings.cache_clear()
        await asyncio.to_thread(publish)
        secured.setenv("SINFER_BROKER_URL", f"redis://:hunter2@127.0.0.1:{other.port}/1")
        settings.cache_clear()
        finding = await check_broker()
        assert finding.verdict == "error"
        assert "SINFER_BROKER_URL" in finding.text
        assert "hunter2" not in finding.text


async def test_the_stream_sink_takes_certificates_from_its_url(
    proxy: TlsProxy, certificates: Certificates, unique: str
) -> None:
    files = f"ssl_ca_certs={certificates.ca}&ssl_certfile={certificates.client}"
    url = f"rediss://sinfer:s3cret@127.0.0.1:{proxy.port}/2?{files}"
    config: Any = RedisStreamSink.Config(url=url, stream=unique)
    sink = RedisStreamSink(config)
    await sink.write(window_results([{"a": 1}]))
    await sink.aclose()
