"""Certificate authorities that the environment or a task names are looked at before they count."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import trustme

from sinfer import ConfigError
from sinfer.config.trust import authorities, environment_problem, trust


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)


@pytest.fixture
def ca_file(tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    return path


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_a_file_that_is_missing_empty_or_something_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path, why in (
        (tmp_path / "missing.pem", f"there is no file '{tmp_path}/missing.pem'"),
        (write(tmp_path / "empty.pem", b""), "empty.pem' holds no certificate"),
        (write(tmp_path / "odd.pem", b"\xff\x00garbage"), "odd.pem' holds no certificate"),
        (tmp_path, f"'{tmp_path}' cannot be read: Is a directory"),
    ):
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
        with pytest.raises(ConfigError) as error:
            trust(True, None, "inference.ca_file")
        assert str(error.value).startswith("SSL_CERT_FILE: ")
        assert why in str(error.value)
        assert str(error.value).endswith("; correct it, or unset SSL_CERT_FILE")
        with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
            authorities(None, "inference.ca_file")
        assert environment_problem() == f" ({error.value})"
        with pytest.raises(ConfigError, match=r"inference\.ca_file: ") as error:
            trust(True, path, "inference.ca_file")
        assert "SSL_CERT_FILE" not in str(error.value)


def test_a_directory_in_which_openssl_would_find_nothing_is_named(
    tmp_path: Path, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in (tmp_path / "missing", tmp_path):  # ca.pem is no name that it looks for
        monkeypatch.setenv("SSL_CERT_DIR", str(path))
        with pytest.raises(ConfigError, match=r"SSL_CERT_DIR: .* holds no certificates under"):
            trust(True, None, "inference.ca_file")


def test_a_file_counts_as_soon_as_it_is_right(
    ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = tmp_path / "later.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(later))
    assert environment_problem()
    later.write_bytes(ca_file.read_bytes())
    assert not environment_problem()
    assert len(trust(True, None, "").get_ca_certs()) == 1
    assert authorities(None, "") == later.read_bytes()


def test_a_file_beside_a_directory_that_holds_nothing_is_enough(
    ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "missing"))
    assert len(trust(True, None, "").get_ca_certs()) == 1


def test_a_directory_of_hashed_names_is_trusted(
    ca_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "certificates"
    directory.mkdir()
    name = hashlib.sha1(b"subject").hexdigest()[:8]
    (directory / f"{name}.0").write_bytes(ca_file.read_bytes())
    monkeypatch.setenv("SSL_CERT_DIR", str(directory))
    trust(True, None, "inference.ca_file")
    assert authorities(None, "") == ca_file.read_bytes()


def test_who_verifies_nothing_or_names_a_file_does_not_ask_the_environment(
    ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/missing.pem")
    trust(False, None, "inference.ca_file")
    assert len(trust(True, ca_file, "inference.ca_file").get_ca_certs()) == 1
