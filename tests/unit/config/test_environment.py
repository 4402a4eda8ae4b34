"""What others put into the environment turns neither Celery nor Flower away from sinfer."""

from __future__ import annotations

import logging
import os

import pytest

from sinfer.config.environment import without_strangers
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
    without_strangers(environ)
    assert environ == mine
    environ = {**mine, **links}
    without_strangers(environ)
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
        without_strangers(environ)
    assert environ == {"OTHER": "1"}
    assert f"{name} (or celery's option for it) is ignored" in caplog.text
    assert "secret" not in caplog.text


def test_the_broker_is_the_one_of_sinfers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        monkeypatch.setenv(name, "redis://elsewhere:1/0")
    conf = make_app([]).conf
    ours = settings().celery_broker_url
    assert (conf.broker_url, conf.broker_read_url, conf.broker_write_url) == (ours, ours, ours)
    assert not [name for name in os.environ if name.startswith("CELERY_BROKER")]
