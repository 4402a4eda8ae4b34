"""Models and receivers behind a proxy: reached through it, and it is named when they are not."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from sinfer.embedded.backing import BackingServers
from sinfer.embedded.model_process import ModelServer
from sinfer.embedded.services import answers
from sinfer.errors import (
    ConfigError,
    InferenceError,
    InferenceMisconfiguredError,
    InferenceUnavailableError,
    SinkUnavailableError,
)
from sinfer.inference.base import InferenceClient
from sinfer.settings import settings
from sinfer.sinks.base import Sink
from tests.integration.inference.test_v2_grpc import Server as GrpcServer
from tests.support.http_server import ScriptedServer
from tests.support.proxy import ProxyServer
from tests.support.until import until
from tests.support.window_results import window_results

pytestmark = pytest.mark.integration

LOGIN = "user:hunter2"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("http", "https", "all", "no", "grpc"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    settings.cache_clear()
    yield
    settings.cache_clear()


@pytest.fixture
async def proxy() -> AsyncIterator[ProxyServer]:
    async with ProxyServer().listening() as server:
        yield server


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return ca


def server_side(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


@pytest.fixture(params=["http", "https"])
async def server(
    request: pytest.FixtureRequest, authority: trustme.CA
) -> AsyncIterator[ScriptedServer]:
    context = server_side(authority) if request.param == "https" else None
    async with ScriptedServer().listening(context) as scripted:
        yield scripted


Ask = Callable[..., Any]


@pytest.fixture
async def ask(tmp_path: Path, authority: trustme.CA) -> AsyncIterator[Ask]:
    """Asks a model with a client of its own."""
    async with AsyncExitStack() as stack:

        async def call(request: Any = (), **inference: Any) -> Any:
            given = {"type": "json", "timeout": "2s", "ca_file": tmp_path / "ca.pem", **inference}
            config = InferenceClient.validator()(given)
            client = InferenceClient.make(config, "the client")
            stack.push_async_callback(client.aclose)
            return await client.infer(request)

        yield call


@pytest.mark.parametrize("scheme", ["http", "socks5", "socks5h"])
@pytest.mark.parametrize("login", ["", LOGIN])
async def test_a_model_is_asked_through_the_proxy_of_the_environment(
    server: ScriptedServer,
    proxy: ProxyServer,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    login: str,
) -> None:
    proxy.login = login
    monkeypatch.setenv("ALL_PROXY", proxy.url(scheme, login))
    assert await ask(url=server.url) == {}
    assert proxy.asked == [server.url.partition("://")[2]]
    assert await ask(url=server.url, proxy="none") == {}
    assert len(proxy.asked) == 1
    assert len(server.requests) == 2


async def test_a_proxy_behind_tls_is_trusted_as_the_model_is(
    server: ScriptedServer, authority: trustme.CA, ask: Ask
) -> None:
    async with ProxyServer().listening(server_side(authority)) as secured:
        assert await ask(url=server.url, proxy=secured.url("https")) == {}
        assert len(secured.asked) == 1


async def failure(asked: Any) -> InferenceError:
    with pytest.raises(InferenceError) as error:
        await asked
    return error.value


async def test_every_failure_names_the_proxy_and_none_its_password(
    server: ScriptedServer, proxy: ProxyServer, ask: Ask
) -> None:
    def through(scheme: str = "http") -> Any:
        return ask(url=server.url, proxy=proxy.url(scheme, LOGIN), timeout="500ms")

    errors = []
    proxy.login = "someone:else"
    errors += [refused := await failure(through()), await failure(through("socks5"))]
    assert isinstance(refused, InferenceMisconfiguredError)
    assert "407 Proxy Authentication Required" in str(refused)
    proxy.login = ""
    for proxy.status in (502, 503):
        errors += [gateway := await failure(through()), await failure(through("socks5"))]
        assert isinstance(gateway, InferenceUnavailableError)
        assert str(proxy.status) in str(gateway)
    proxy.status, proxy.is_silent = 0, True
    errors += [hangs := await failure(through()), await failure(through("socks5"))]
    assert "no answer within 500ms" in str(hangs)
    proxy.is_silent, proxy.garbage = False, b"SSH-2.0-OpenSSH\r\n\r\n"
    errors += [await failure(through()), odd := await failure(through("socks5"))]
    assert "it does not speak SOCKS 5" in str(odd)
    for error in errors:
        assert f"127.0.0.1:{proxy.port} of inference.proxy" in str(error)
        assert "hunter2" not in str(error)
        assert not isinstance(error, InferenceMisconfiguredError) or error is refused
    nobody = await failure(ask(url=server.url, proxy="http://127.0.0.1:1"))
    assert "through the proxy http://127.0.0.1:1 of inference.proxy" in str(nobody)
    assert isinstance(nobody, InferenceUnavailableError)
    assert nobody.not_begun
    assert not server.requests


async def test_a_tunnel_that_the_proxy_refuses_burns_no_attempt(
    authority: trustme.CA, proxy: ProxyServer, ask: Ask
) -> None:
    proxy.status = 502
    async with ScriptedServer().listening(server_side(authority)) as server:
        error = await failure(ask(url=server.url, proxy=proxy.url()))
    assert isinstance(error, InferenceUnavailableError)
    assert error.not_begun


@pytest.mark.parametrize("kind", ["http", "https"])
async def test_grpc_goes_by_the_same_rules(
    proxy: ProxyServer,
    ask: Ask,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    pair = authority.issue_cert("127.0.0.1")
    secured = grpc.ssl_server_credentials(
        [(pair.private_key_pem.bytes(), pair.cert_chain_pems[0].bytes())]
    )
    request = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
    async with GrpcServer().listening(secured if kind == "https" else None) as url:
        place = f"127.0.0.1:{url.rpartition(':')[2]}"
        model = {"type": "v2", "transport": "grpc", "model": "m", "url": f"{kind}://{place}"}
        proxy.login = LOGIN
        monkeypatch.setenv("ALL_PROXY", proxy.url("http", LOGIN))
        assert (await ask(request, **model)).outputs["y"] == [2.0]
        assert proxy.asked == [place]
        monkeypatch.setenv("NO_PROXY", "127.0.0.0/8")
        await ask(request, **model)
        assert proxy.asked == [place]
        # A task that names one goes through it whatever NO_PROXY says, as over HTTP.
        async with ProxyServer().listening() as other:
            await ask(request, **model, proxy=other.url("http", LOGIN))
            assert other.asked == [place]
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")  # what grpcio itself would take
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        await ask(request, **model, proxy="none")
        refused = await failure(ask(request, **model, proxy=proxy.url("http", "me:hunter2")))
        assert isinstance(refused, InferenceMisconfiguredError)
        assert f"through the proxy http://127.0.0.1:{proxy.port} of inference.proxy" in str(refused)
        assert "407" in str(refused)
        assert "hunter2" not in str(refused)
        proxy.login, proxy.status = "", 502
        gateway = await failure(ask(request, **model, proxy=proxy.url()))
        assert isinstance(gateway, InferenceUnavailableError)
        assert gateway.not_begun
        with pytest.raises(ConfigError, match="gRPC goes through http:// proxies only"):
            await ask(request, **model, proxy=proxy.url("socks5"))


async def test_grpc_trusts_whom_ssl_cert_file_names(
    ask: Ask, authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = authority.issue_cert("127.0.0.1")
    secured = grpc.ssl_server_credentials(
        [(pair.private_key_pem.bytes(), pair.cert_chain_pems[0].bytes())]
    )
    request = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1.0]}]}
    async with GrpcServer().listening(secured) as url:
        model = {"type": "v2", "transport": "grpc", "model": "m", "ca_file": None}
        model["url"] = f"https://127.0.0.1:{url.rpartition(':')[2]}"
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert (await ask(request, **model)).outputs["y"] == [2.0]
        monkeypatch.setenv("SSL_CERT_FILE", "/missing.pem")
        with pytest.raises(ConfigError, match=r"SSL_CERT_FILE: there is no file '/missing\.pem'"):
            await ask(request, **model)


CLIENTS: list[dict[str, Any]] = [
    {"type": "json"},
    {"type": "v2", "model": "m"},
    {"type": "v2", "model": "m", "transport": "grpc"},
    {"type": "tfserving", "model": "m"},
    {"type": "torchserve", "model": "m"},
    {"type": "openai_embeddings", "model": "m"},
    {"type": "openai_chat", "model": "m"},
]


@pytest.mark.parametrize("model", CLIENTS, ids=lambda model: "-".join(map(str, model.values())))
@pytest.mark.parametrize(
    ("variable", "value"),
    [("HTTPS_PROXY", "nonsense::"), ("SSL_CERT_FILE", "/missing.pem"), ("SSL_CERT_DIR", "/none")],
)
async def test_a_client_of_any_kind_that_cannot_be_made_says_what_to_correct(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, model: dict[str, Any], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ConfigError, match=variable):
        await ask(**model, url="https://m", ca_file=None)


@pytest.fixture
async def post(tmp_path: Path, authority: trustme.CA) -> AsyncIterator[Ask]:
    """Writes a window of one result to an http sink of its own."""
    async with AsyncExitStack() as stack:

        async def write(**sink: Any) -> None:
            given = {"type": "http", "timeout": "2s", "ca_file": tmp_path / "ca.pem", **sink}
            made = Sink.make(Sink.validator()(given), "the sink")
            stack.push_async_callback(made.aclose)
            await made.write(window_results(1))

        yield write


async def test_an_http_sink_goes_by_the_same_rules(
    server: ScriptedServer, proxy: ProxyServer, post: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy.login = LOGIN
    monkeypatch.setenv("ALL_PROXY", proxy.url("socks5", LOGIN))
    await post(url=server.url)
    await post(url=server.url, proxy=proxy.url("http", LOGIN))
    assert len(proxy.asked) == 2
    await post(url=server.url, proxy="none")
    assert len(proxy.asked) == 2
    assert len(server.requests) == 3
    proxy.login = "someone:else"
    for scheme in ("http", "socks5"):  # 407 is no verdict on the results
        with pytest.raises(SinkUnavailableError) as error:
            await post(url=server.url, proxy=proxy.url(scheme, LOGIN))
        assert f"through the proxy {proxy.url(scheme)} of proxy" in str(error.value)
        assert "hunter2" not in str(error.value)
    with pytest.raises(SinkUnavailableError, match=r"through the proxy http://127\.0\.0\.1:1 of"):
        await post(url=server.url, proxy="http://127.0.0.1:1")


@pytest.mark.parametrize("scheme", ["http", "socks5"])
async def test_a_proxy_that_hung_leaves_no_connection_and_works_when_it_is_mended(
    server: ScriptedServer, proxy: ProxyServer, post: Ask, scheme: str, tmp_path: Path
) -> None:
    given = {"type": "http", "url": server.url, "proxy": proxy.url(scheme), "max_connections": 1}
    given |= {"timeout": "200ms", "ca_file": tmp_path / "ca.pem"}
    sink = Sink.make(Sink.validator()(given), "the sink")
    try:
        proxy.is_silent = True
        for _ in range(3):
            with pytest.raises(SinkUnavailableError, match="through the proxy"):
                await sink.write(window_results(1))
        proxy.is_silent, proxy.garbage = False, b"SSH-2.0-OpenSSH\r\n\r\n"
        with pytest.raises(SinkUnavailableError, match="through the proxy"):
            await sink.write(window_results(1))
        await until(lambda: not proxy.connections, "the end of all connections")
        proxy.garbage = b""
        for _ in range(20):  # the machine may be slow
            try:
                await sink.write(window_results(1))
                break
            except SinkUnavailableError:
                continue
        assert len(server.requests) == 1
    finally:
        await sink.aclose()


def test_what_runs_on_this_machine_is_asked_without_a_proxy(
    model_server: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else no demo is ever ready where the environment names one."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1")
    is_ready = answers(f"{model_server.url}/v2/health/ready")
    assert is_ready(model_server.process)
    with BackingServers() as backing:
        assert backing.environment["NO_PROXY"].split(",")[-1] == "127.0.0.1"
