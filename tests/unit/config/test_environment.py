"""What others put into the environment turns neither Celery nor Flower away from sinfer."""

from __future__ import annotations

import logging
import os
from urllib.parse import urlsplit

import pytest
from celery import Celery, current_app
from celery.backends.base import DisabledBackend

from sinfer.config.environment import tell_ignored, without_service_links
from sinfer.settings import settings
from sinfer.tasks.application import make_app


def test_service_links_of_flower_are_taken_out_and_its_settings_stay() -> None:
    mine = {"FLOWER_PORT": "5555", "FLOWER_ADDRESS": "0.0.0.0", "FLOWER_BASIC_AUTH": "a:b"}
    links = {
        "FLOWER_PORT": "tcp://10.0.0.7:5555",
        "FLOWER_SERVICE_HOST": "10.0.0.7",
        "FLOWER_PORT_5555_TCP_ADDR": "10.0.0.7",
    }
    environ = {**mine}
    without_service_links(environ)
    assert environ == mine
    environ = {**mine, **links}
    without_service_links(environ)
    assert environ == {name: mine[name] for name in ("FLOWER_ADDRESS", "FLOWER_BASIC_AUTH")}


@pytest.mark.parametrize(
    "name",
    [
        "CELERY_BROKER_URL",
        "CELERY_BROKER_READ_URL",
        "CELERY_RESULT_BACKEND",
        "CELERY_CONFIG_MODULE",
        "CELERY_LOADER",
    ],
)
def test_another_broker_of_celery_is_left_alone_and_that_is_told(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    environ = {name: "redis://:secret@elsewhere/0", "OTHER": "1"}
    with caplog.at_level(logging.WARNING):
        tell_ignored(environ)
    assert name in environ
    assert f"{name} (or celery's option for it) is ignored" in caplog.text
    assert "secret" not in caplog.text


def test_broker_backend_and_loader_are_those_of_sinfers_settings_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("BROKER_URL", "BROKER_READ_URL", "BROKER_WRITE_URL", "RESULT_BACKEND"):
        monkeypatch.setenv(f"CELERY_{name}", "redis://elsewhere:1/0")
    monkeypatch.setenv("CELERY_LOADER", "no.such:Loader")
    monkeypatch.setenv("CELERY_CONFIG_MODULE", "no_such_module")
    app = make_app([])
    ours = urlsplit(settings().celery_broker_url)
    for connect in (app.connection, app.connection_for_read, app.connection_for_write):
        with connect() as connection:
            assert (connection.hostname, connection.port) == (ours.hostname, ours.port)
    assert isinstance(app.backend, DisabledBackend)


def test_another_application_of_the_process_has_the_environment_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CELERY_BROKER_URL", "redis://elsewhere:1/0")
    before, current = dict(os.environ), id(current_app.tasks)
    make_app([])
    assert (dict(os.environ), id(current_app.tasks)) == (before, current)
    assert Celery("mine").connection().hostname == "elsewhere"
