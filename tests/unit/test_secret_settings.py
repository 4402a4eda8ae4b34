"""Settings that hold secrets or name files with them: checked at the start, never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from sinfer import ConfigError
from sinfer.settings import PREFIX, Settings, load_settings
from tests.support.secured import Certificates, Nkey, creds_file


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(PREFIX + field.upper(), raising=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def refused(monkeypatch: pytest.MonkeyPatch, **values: object) -> str:
    for name, value in values.items():
        monkeypatch.setenv(f"SINFER_{name.upper()}", str(value))
    with pytest.raises(ConfigError) as caught:
        load_settings()
    return str(caught.value)


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINFER_REDIS_URL", "redis://u:s3cret@h:1/0")
    monkeypatch.setenv("SINFER_BROKER_URL", "amqp://:s3cret@h:1;amqp://:s3cr@t@i:1")
    monkeypatch.setenv("SINFER_NATS_SERVERS", "nats://u:s3cret@h,s3cret@i:4222")
    monkeypatch.setenv("SINFER_NATS_USER", "me")
    monkeypatch.setenv("SINFER_NATS_PASSWORD", "s3cret")
    settings = load_settings()
    shown = f"{settings!r} {settings}"
    assert "s3cr" not in shown
    assert "nats://***@i" in shown


@pytest.mark.parametrize(
    "name",
    ["nats_creds", "nats_nkey_seed", "nats_tls_ca", "nats_tls_cert", "redis_tls_ca"],
)
def test_a_file_that_is_not_there_is_told_at_the_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    text = refused(monkeypatch, **{name: tmp_path / "gone"})
    assert name in text
    assert f"there is no file '{tmp_path / 'gone'}'" in text


def test_a_file_that_cannot_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = refused(monkeypatch, nats_creds=tmp_path)
    assert f"'{tmp_path}' cannot be read: Is a directory" in text


@pytest.mark.parametrize("name", ["nats_creds", "nats_nkey_seed"])
@pytest.mark.parametrize("form", ["seed", "creds"])
def test_a_key_in_place_of_a_files_name_is_refused_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, form: str
) -> None:
    seed = Nkey("user").seed
    text = refused(monkeypatch, **{name: seed if form == "seed" else creds_file("j.w.t", seed)})
    assert "write that into a file" in text
    assert seed not in text


@pytest.mark.parametrize("content", ["", "SUXXX", "-----BEGIN NATS USER JWT-----\nx\n"])
@pytest.mark.parametrize("name", ["nats_creds", "nats_nkey_seed"])
def test_a_file_that_holds_something_else_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, content: str
) -> None:
    path = tmp_path / "key"
    path.write_text(content)
    assert f"{str(path)!r} " in (text := refused(monkeypatch, **{name: path}))
    assert "XXX" not in text


def test_the_seed_of_an_account_is_none_of_a_user(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "seed").write_text(seed := Nkey("account").seed)
    text = refused(monkeypatch, nats_nkey_seed=tmp_path / "seed")
    assert "holds no seed of a user" in text
    assert seed not in text


def test_one_identity_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    text = refused(monkeypatch, nats_user="me", nats_password="s3cret", nats_token="s3cret")
    assert "one of nats_user and nats_token" in text
    assert "s3cret" not in text


def test_a_user_has_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nats_password together" in refused(monkeypatch, nats_user="me")


@pytest.mark.parametrize("server", ["nats", "redis"])
def test_certificates_are_checked_at_the_start(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: Path, server: str
) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    tls = f"{server}_tls"
    assert f"{tls}_ca: " in refused(monkeypatch, **{f"{tls}_ca": tmp_path / "x.pem"})
    monkeypatch.setenv(f"SINFER_{tls.upper()}_CA", str(certificates.ca))
    load_settings()
    text = refused(monkeypatch, **{f"{tls}_key": certificates.key})
    assert f"{tls}_key: give {tls}_cert as well" in text
    text = refused(monkeypatch, **{f"{tls}_cert": certificates.ca})
    assert f"{tls}_cert: " in text
    assert "goes with its private key" in text
    monkeypatch.setenv(f"SINFER_{tls.upper()}_CERT", str(certificates.cert))
    load_settings()


def test_a_private_key_with_a_password_is_refused_and_nobody_is_asked_for_it(
    monkeypatch: pytest.MonkeyPatch, certificates: Certificates, tmp_path: Path
) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(certificates.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"s3cret"),
    )
    (tmp_path / "locked.key").write_bytes(locked)
    text = refused(
        monkeypatch, nats_tls_cert=certificates.cert, nats_tls_key=tmp_path / "locked.key"
    )
    assert "nats_tls_key: the private key has a password" in text


def test_a_server_of_another_kind_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = refused(monkeypatch, nats_servers="redis://u:s3cret@h")
    assert "write nats://host:port" in text
    assert "s3cret" not in text
