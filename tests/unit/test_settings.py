"""Settings come from the environment or a .env file; a misspelt one is never silently dropped."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from sinfer import ConfigError
from sinfer.settings import PREFIX, Settings, load_settings, settings, unread


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An environment without settings, in a directory without a .env file."""
    monkeypatch.chdir(tmp_path)
    for field in Settings.model_fields:
        monkeypatch.delenv(PREFIX + field.upper(), raising=False)
        monkeypatch.delenv(f"{PREFIX}{field.upper()}_FILE", raising=False)


def test_defaults_are_those_of_a_developers_machine() -> None:
    settings = load_settings()
    assert settings.redis_url == "redis://127.0.0.1:6379/0"
    assert settings.celery_broker_url == "redis://127.0.0.1:6379/1"
    assert settings.nats_servers == ["nats://127.0.0.1:4222"]
    assert settings.products == []
    assert settings.tick == timedelta(milliseconds=200)


def test_lists_are_separated_by_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINFER_PRODUCTS", " a.b, c ,,")
    monkeypatch.setenv("SINFER_NATS_SERVERS", "nats://one:4222,nats://two:4222")
    assert load_settings().products == ["a.b", "c"]
    assert load_settings().nats_servers == ["nats://one:4222", "nats://two:4222"]


@pytest.mark.parametrize(
    ("redis_url", "broker_url"),
    [
        ("redis://h:6379/0", "redis://h:6379/1"),
        ("redis://h", "redis://h/1"),
        ("rediss://user:secret@h:6380/5", "rediss://user:secret@h:6380/1"),
        ("redis://h:6379/0?health_check_interval=2", "redis://h:6379/1?health_check_interval=2"),
    ],
)
def test_the_broker_is_the_same_server_but_another_database(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, broker_url: str
) -> None:
    monkeypatch.setenv("SINFER_REDIS_URL", redis_url)
    assert load_settings().celery_broker_url == broker_url


def test_a_broker_that_is_named_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINFER_BROKER_URL", "amqp://rabbit//")
    assert load_settings().celery_broker_url == "amqp://rabbit//"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("SINFER_REDIS_ULR", "SINFER_REDIS_URL"),
        ("SINFER_REDIS", "SINFER_REDIS_URL"),
        ("SINFER_PRODUCT", "SINFER_PRODUCTS"),
        ("SINFER_NATS_SERVER", "SINFER_NATS_SERVERS"),
        ("SINFER_NATS_URL", "SINFER_NATS_SERVERS"),
        ("SINFER_REDIS_HOST", "SINFER_REDIS_URL"),
        ("SINFER_REDIS_PORT", "SINFER_REDIS_URL"),
        ("SINFER_CELERY_BROKER_URL", "SINFER_BROKER_URL"),
        ("SINFER_HTTPS_PROXY", "SINFER_PROXY"),
        ("SINFER_NATS_JS_DOMAIN", "SINFER_NATS_DOMAIN"),
        ("SINFER_REDIS_ULR_FILE", "SINFER_REDIS_URL_FILE"),
        ("sinfer_tik", "SINFER_TICK"),
    ],
)
def test_an_unknown_name_is_refused_with_the_nearest(
    monkeypatch: pytest.MonkeyPatch, name: str, nearest: str
) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=f"setting {name} is unknown; did you mean {nearest}"):
        load_settings()


@pytest.mark.parametrize("name", ["SINFER_WINDOWS_FANCY", "SINFER_X", "SINFER_REDIS_SENTINELS"])
def test_nothing_is_suggested_that_is_not_near(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "x")
    with pytest.raises(ConfigError, match=f"setting {name} is unknown; remove it"):
        load_settings()


SERVICE_LINKS = {
    "SINFER_PORT": "tcp://10.0.0.1:80",
    "SINFER_SERVICE_HOST": "10.0.0.1",
    "SINFER_REDIS_SERVICE_HOST": "10.0.0.11",
    "SINFER_REDIS_SERVICE_PORT": "6379",
    "SINFER_REDIS_SERVICE_PORT_CLIENT": "6379",
    "SINFER_REDIS_PORT": "tcp://10.0.0.11:6379",
    "SINFER_REDIS_PORT_6379_TCP": "tcp://10.0.0.11:6379",
    "SINFER_REDIS_PORT_6379_TCP_PROTO": "tcp",
    "SINFER_REDIS_PORT_6379_TCP_PORT": "6379",
    "SINFER_REDIS_PORT_6379_TCP_ADDR": "fd00::11",
    "SINFER_NATS_HEADLESS_SERVICE_HOST": "None",
}


def test_what_kubernetes_sets_for_services_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SERVICE_LINKS.items():
        monkeypatch.setenv(name, value)
    assert load_settings() == Settings()


@pytest.mark.parametrize("field", Settings.model_fields)
def test_a_service_may_be_called_like_any_setting(
    monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    for name, value in SERVICE_LINKS.items():
        if "REDIS" in name:
            monkeypatch.setenv(name.replace("REDIS", field.upper()), value)
    assert load_settings() == Settings()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SINFER_PORT", "5555"),
        ("SINFER_REDIS_PORTS", "tcp://h:1"),
        ("SINFER_REDIS_PORT", "home"),
        ("SINFER_REDIS_PORT", "6379"),
        ("SINFER_REDIS_PORT_6379_TCP", "6379"),
        ("SINFER_REDIS_SERVICE_HOST", "redis"),
    ],
)
def test_what_only_looks_like_a_service_is_still_unknown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=f"setting {name} is unknown"):
        load_settings()


def test_a_service_in_a_file_is_somebodys_mistake(tmp_path: Path) -> None:
    (tmp_path / "x.env").write_text("SINFER_REDIS_PORT=tcp://10.0.0.11:6379\n")
    with pytest.raises(ConfigError, match="SINFER_REDIS_PORT is unknown"):
        load_settings(tmp_path / "x.env")


def test_an_unknown_name_in_a_file_is_refused_as_well(tmp_path: Path) -> None:
    path = tmp_path / "settings.env"
    path.write_text("SINFER_TICKS=1s\n")
    with pytest.raises(ConfigError, match="did you mean SINFER_TICK"):
        load_settings(path)


def test_other_names_are_nobodys_business(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OTHER=1\nSINFERNO=1\n")
    monkeypatch.setenv("SINFERNO", "1")
    load_settings()


def test_the_dotenv_file_counts_and_the_environment_wins(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("SINFER_TICK=1s\nSINFER_LOG_LEVEL=DEBUG\n")
    monkeypatch.setenv("SINFER_TICK", "2s")
    settings = load_settings()
    assert settings.tick == timedelta(seconds=2)
    assert settings.log_level == "DEBUG"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("SINFER_TICK", "soon", ["tick", "'soon' is no duration", "250ms"]),
        ("SINFER_TICK", "0", ["tick", "at least 10ms", "'0'"]),
        ("SINFER_LOG_LEVEL", "loud", ["log_level", "'INFO'", "'loud'"]),
        ("SINFER_LOG_FORMAT", "xml", ["log_format", "'json'", "'xml'"]),
        ("SINFER_REDIS_URL", "http://:pass@h", ["redis_url", "redis://"]),
        ("SINFER_REDIS_URL", "/run/redis.sock", ["redis_url", "redis://"]),
    ],
)
def test_a_wrong_value_is_told_with_its_field_and_what_would_be_right(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: list[str]
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError) as caught:
        load_settings()
    text = str(caught.value)
    assert text.startswith("settings (SINFER_*): ")
    assert all(part in text for part in told), text
    assert "pass" not in text


def test_a_secret_may_stand_in_a_file_of_its_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("redis://:s3cret@h/0\n")
    (tmp_path / "password").write_text(" with blanks \r\n")
    monkeypatch.setenv("SINFER_REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("SINFER_NATS_USER", "u")
    (tmp_path / ".env").write_text(f"SINFER_NATS_PASSWORD_FILE={tmp_path / 'password'}\n")
    settings = load_settings()
    assert settings.redis_url == "redis://:s3cret@h/0"
    assert settings.nats_password.get_secret_value() == " with blanks "


def test_a_secret_is_given_in_one_way(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text("redis://h/0")
    monkeypatch.setenv("SINFER_REDIS_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("SINFER_REDIS_URL", "redis://other/0")
    with pytest.raises(ConfigError, match="give SINFER_REDIS_URL or SINFER_REDIS_URL_FILE"):
        load_settings()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "SINFER_REDIS_URL_FILE: there is no file"),
        (b"\xff\xfe", "SINFER_REDIS_URL_FILE: .*no text"),
        (b"http://:s3cret@h", "redis_url: .*: write redis://"),
    ],
)
def test_a_file_that_holds_no_value_is_told_without_what_it_holds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, told: str
) -> None:
    if content is not None:
        (tmp_path / "url").write_bytes(content)
    monkeypatch.setenv("SINFER_REDIS_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(ConfigError, match=told) as caught:
        load_settings()
    assert "s3cret" not in str(caught.value)


URL = b"redis://:hunter2@h:1/0"


@pytest.mark.parametrize(
    "content",
    [URL, URL + b"\n", URL + b"\r\n", b"\xef\xbb\xbf" + URL + b"\r\n\r\n", b"  " + URL + b" \n"],
)
def test_what_editors_put_around_a_value_in_a_file_is_no_part_of_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "url").write_bytes(content)
    monkeypatch.setenv("SINFER_REDIS_URL_FILE", str(tmp_path / "url"))
    assert load_settings().redis_url == URL.decode()


def test_blanks_are_a_part_of_a_password_and_lines_of_a_list_are_its_parts(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(" hunter2 \n")
    (tmp_path / "products").write_text("a.b\n\nc\n")
    monkeypatch.setenv("SINFER_NATS_USER", "me")
    monkeypatch.setenv("SINFER_NATS_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("SINFER_PRODUCTS_FILE", str(tmp_path / "products"))
    assert load_settings().nats_password.get_secret_value() == " hunter2 "
    assert load_settings().products == ["a.b", "c"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is empty"),
        (b"\xef\xbb\xbf\n\n", "is empty"),
        (b"hunter2\nhunter3\n", "is not one line of plain text"),
        (b"hunter2\0", "is not one line of plain text"),
        (bytes(range(256)), "holds no text in UTF-8"),
        (None, "Is a directory"),
    ],
)
def test_a_file_that_holds_no_value_is_named_and_not_quoted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None, told: str
) -> None:
    path = tmp_path / "token"
    path.mkdir() if content is None else path.write_bytes(content)
    monkeypatch.setenv("SINFER_NATS_TOKEN_FILE", str(path))
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert str(error.value).startswith(f"SINFER_NATS_TOKEN_FILE: {str(path)!r} ")
    assert told in str(error.value)
    assert "hunter" not in str(error.value)


@pytest.mark.parametrize("value", ["hunter2", "redis://:hunter2@h/0"])
def test_a_value_in_the_place_of_a_files_name_is_not_shown(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SINFER_REDIS_URL_FILE", value)
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert str(error.value) == "SINFER_REDIS_URL_FILE: it does not name a file that can be read"


def test_a_value_that_is_wrong_is_told_with_the_file_that_it_stands_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "url").write_text("http://:hunter2@h")
    monkeypatch.setenv("SINFER_REDIS_URL_FILE", str(tmp_path / "url"))
    with pytest.raises(ConfigError, match="redis_url: in the file of SINFER_REDIS_URL_FILE: ") as e:
        load_settings()
    assert "hunter2" not in str(e.value)


def test_a_product_that_is_named_twice_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SINFER_PRODUCTS", "a, b,,a ,")
    assert load_settings().products == ["a", "b"]


@pytest.mark.parametrize("value", ["a b", "a;b", '["a"]', "a\nb"])
def test_products_that_are_not_separated_by_commas_are_refused(
    monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    monkeypatch.setenv("SINFER_PRODUCTS", value)
    with pytest.raises(ConfigError, match=r"products: .* separate several by commas"):
        load_settings()


def test_a_variable_that_is_not_read_is_told_of_where_nothing_else_was_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.cache_clear()
    assert unread("redis_url", "REDIS_URL") == ""
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    assert "REDIS_URL is not read; set SINFER_REDIS_URL" in unread("redis_url", "REDIS_URL")
    monkeypatch.setenv("SINFER_REDIS_URL", "redis://here")
    settings.cache_clear()
    assert unread("redis_url", "REDIS_URL") == ""
    settings.cache_clear()
