"""NATS servers that demand credentials and TLS: let in with the right ones, told why not else."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from sinfer.config.tls import TlsFiles
from sinfer.embedded.servers import NatsServer
from sinfer.errors import AccessError, ConfigError, UnavailableError
from sinfer.nats.access import NatsAccess, NatsTls
from sinfer.nats.connection import connect
from tests.support.secured import Certificates, Nkey, OperatorMode, operator_mode
from tests.support.until import until

pytestmark = pytest.mark.integration

WAIT_S = 30.0


async def let_in(server: NatsServer, access: NatsAccess, url: str = "") -> None:
    client = await connect([url or server.url], name="test", access=access)
    assert client.is_connected
    await client.flush()
    await client.close()


async def refused(server: NatsServer, access: NatsAccess, url: str = "") -> str:
    with pytest.raises(AccessError) as caught:
        await connect([url or server.url], name="test", access=access)
    return str(caught.value)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


# --- users, tokens, nkeys, JWTs ---


@pytest.fixture(scope="module")
def server_with_user() -> Iterator[NatsServer]:
    with NatsServer(config='authorization { user: me, password: "p@ss/w:rd" }') as server:
        yield server


async def test_a_password_may_have_any_characters(server_with_user: NatsServer) -> None:
    await let_in(server_with_user, NatsAccess(user="me", password="p@ss/w:rd"))


async def test_a_wrong_password_is_told_without_it(server_with_user: NatsServer) -> None:
    text = await refused(server_with_user, NatsAccess(user="me", password="hunter2"))
    assert "refuses the user 'me' of SINFER_NATS_USER (Authorization Violation)" in text
    assert "hunter2" not in text


async def test_a_url_with_a_user_goes_before_the_settings(server_with_user: NatsServer) -> None:
    url = server_with_user.url.replace("//", "//other:hunter2@")
    text = await refused(server_with_user, NatsAccess(user="me", password="p@ss/w:rd"), url)
    assert "refuses the user or token in the URL" in text
    assert "hunter2" not in text


async def test_no_credentials_at_all_are_told(server_with_user: NatsServer) -> None:
    assert "refuses no credentials" in await refused(server_with_user, NatsAccess())


async def test_a_token_is_shown_from_the_settings_and_from_the_url() -> None:
    with NatsServer(config="authorization { token: t0ken }") as server:
        await let_in(server, NatsAccess(token="t0ken"))
        await let_in(server, NatsAccess(), server.url.replace("//", "//t0ken@"))
        text = await refused(server, NatsAccess(token="hunter2"))
    assert "refuses the token of SINFER_NATS_TOKEN" in text
    assert "hunter2" not in text


async def test_an_nkey_signs_the_servers_challenge(tmp_path: Path) -> None:
    right, wrong = Nkey("user"), Nkey("user")
    (tmp_path / "right").write_text(f"{right.seed}\n")
    (tmp_path / "wrong").write_text(wrong.seed)
    with NatsServer(config=f"authorization {{ users: [{{nkey: {right.public}}}] }}") as server:
        await let_in(server, NatsAccess(nkey_seed=tmp_path / "right"))
        text = await refused(server, NatsAccess(nkey_seed=tmp_path / "wrong"))
    assert "refuses the nkey of SINFER_NATS_NKEY_SEED" in text
    assert wrong.seed not in text


@pytest.fixture(scope="module")
def operator() -> OperatorMode:
    return operator_mode()


@pytest.fixture(scope="module")
def server_with_operator(operator: OperatorMode) -> Iterator[NatsServer]:
    with NatsServer(config=operator.config) as server:
        yield server


async def test_a_credentials_file_is_shown(
    server_with_operator: NatsServer, operator: OperatorMode, tmp_path: Path
) -> None:
    (tmp_path / "user.creds").write_text(operator.creds)
    access = NatsAccess(creds=tmp_path / "user.creds")
    client = await connect([server_with_operator.url], name="test", access=access)
    await client.jetstream().add_stream(name="S", subjects=["s"])
    await client.close()


async def test_credentials_of_a_stranger_are_refused(
    server_with_operator: NatsServer, operator: OperatorMode, tmp_path: Path
) -> None:
    (tmp_path / "user.creds").write_text(operator.stranger)
    text = await refused(server_with_operator, NatsAccess(creds=tmp_path / "user.creds"))
    assert "refuses the credentials of SINFER_NATS_CREDS" in text


async def test_renewed_credentials_are_taken_at_the_next_reconnect_and_broken_ones_told(
    operator: OperatorMode, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "user.creds"
    path.write_text(operator.creds)
    with NatsServer(config=operator.config) as server:
        client = await connect([server.url], name="test", access=NatsAccess(creds=path))
        path.write_text("nothing")
        server.restart()
        await until(lambda: "is no credentials file" in caplog.text, "it to be told", WAIT_S)
        path.write_text(operator.creds)
        await until(lambda: client.is_connected, "a connection", WAIT_S)
        await client.close()


async def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"SINFER_NATS: there is no file '.*/user.creds'"):
        await connect(["nats://h"], name="t", access=NatsAccess(creds=tmp_path / "user.creds"))


async def test_access_that_is_taken_away_is_told_once_and_not_in_a_loop(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with NatsServer(config="authorization { user: me, password: one }") as server:
        access = NatsAccess(user="me", password="one")
        client = await connect([server.url], name="test", access=access)
        config = server.directory / "nats.conf"
        server.process.kill()
        config.write_text(config.read_text().replace("one", "two"))
        server.start()
        await until(lambda: client.server_pool[0].reconnects >= 3, "three tries", WAIT_S)
        await client.close()
    told = [record for record in caplog.records if "Authorization Violation" in record.message]
    assert [record.levelno for record in told] == [logging.ERROR]
    assert "refuses the user 'me' of SINFER_NATS_USER" in told[0].message


async def test_a_user_who_is_thrown_out_is_told(caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(config="authorization { user: me, password: one }") as server:
        access = NatsAccess(user="me", password="one")
        client = await connect([server.url], name="test", access=access)
        config = server.directory / "nats.conf"
        config.write_text(config.read_text().replace("one", "two"))
        server.process.signal(signal.SIGHUP)
        await until(lambda: "refuses the user 'me'" in caplog.text, "it to be told", WAIT_S)
        await client.close()


# --- TLS ---


@pytest.fixture(scope="module")
def server_with_tls(certificates: Certificates) -> Iterator[NatsServer]:
    with NatsServer(config=certificates.nats(verify=True)) as server:
        yield server


async def test_both_sides_show_certificates(
    server_with_tls: NatsServer, certificates: Certificates
) -> None:
    tls = TlsFiles(certificates.ca, certificates.client)
    await let_in(server_with_tls, NatsAccess(tls=NatsTls(tls)))
    await let_in(
        server_with_tls, NatsAccess(tls=NatsTls(tls)), f"tls://127.0.0.1:{server_with_tls.port}"
    )


async def test_a_server_of_another_ca_is_not_trusted(
    server_with_tls: NatsServer, certificates: Certificates
) -> None:
    access = NatsAccess(tls=NatsTls(TlsFiles(certificates.other_ca, certificates.client)))
    text = await refused(server_with_tls, access)
    assert "certificate that is not accepted" in text
    assert "SINFER_NATS_TLS_CA" in text


async def test_authorities_of_the_environment_that_are_not_there_are_told_of(
    server_with_tls: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/missing.pem")
    text = await refused(server_with_tls, NatsAccess(tls=NatsTls(hostname="127.0.0.1")))
    assert "certificate that is not accepted" in text
    assert "SSL_CERT_FILE: there is no file '/missing.pem'" in text


async def test_a_client_without_its_certificate_is_told_which_setting_has_it(
    server_with_tls: NatsServer, certificates: Certificates
) -> None:
    # Whether the refusal or the end of the connection is seen first is up to the network.
    access = NatsAccess(tls=NatsTls(TlsFiles(certificates.ca)))
    with pytest.raises(UnavailableError, match="SINFER_NATS_TLS_CERT"):
        await connect([server_with_tls.url], name="test", access=access)


async def test_the_name_in_the_certificate_counts(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path, "nats.example")
    tls = TlsFiles(certificates.ca)
    with NatsServer(config=certificates.nats()) as server:
        text = await refused(server, NatsAccess(tls=NatsTls(tls)))
        assert "SINFER_NATS_TLS_HOSTNAME" in text
        await let_in(server, NatsAccess(tls=NatsTls(tls, "nats.example")))


async def test_a_server_may_begin_with_tls(certificates: Certificates) -> None:
    tls = TlsFiles(certificates.ca)
    with NatsServer(config=certificates.nats(handshake_first=True)) as server:
        await let_in(server, NatsAccess(tls=NatsTls(tls, handshake_first=True)))


@pytest.mark.parametrize("by", ["url", "settings"])
async def test_nothing_is_sent_to_a_server_without_tls_where_tls_is_demanded(
    certificates: Certificates, by: str
) -> None:
    received = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576}\r\n')
        received.extend(await reader.read(1000))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    place = f"127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    access = NatsAccess(user="me", password="hunter2")
    url = f"tls://{place}"
    if by == "settings":
        url = f"nats://{place}"
        access = NatsAccess(user="me", password="hunter2", tls=NatsTls(TlsFiles(certificates.ca)))
    with pytest.raises(AccessError, match="offers no TLS"):
        await connect([url], name="test", access=access)
    listener.close()
    await listener.wait_closed()
    assert not received
