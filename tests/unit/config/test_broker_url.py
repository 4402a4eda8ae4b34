"""Which brokers are taken, and what is told of others."""

from __future__ import annotations

import pytest

from sinfer.config.broker_url import check_broker_url
from sinfer.errors import ConfigError
from sinfer.settings import load_settings


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:6379/1",
        "rediss://u:p@h/1?ssl_ca_certs=x",
        "sentinel://u:p@a:26379,b:26380/mine/1",
        "amqp://rabbit//",
        "amqps://u:p@rabbit/vhost",
        "redis://a:1/0;amqp://b:1//",
    ],
)
def test_redis_sentinels_and_rabbitmq_are_taken(url: str) -> None:
    check_broker_url(url)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqs://", "'sqs' is not supported as a broker; sinfer works with Redis (redis://"),
        ("redis://a;kafka://b", "'kafka' is not supported"),
        ("memory://", "'memory' is not supported"),
        ("rediscluster://h:1/0", "'rediscluster' is not supported"),
        ("localhost:6379", "write the broker as a URL"),
        ("sentinel://h:26379", "it names no primary"),
        ("sentinel://h:1/mine/1;sentinel://i:1/mine/1", "commas, not ';', are between"),
    ],
)
def test_any_other_is_refused_by_name_at_the_start(
    monkeypatch: pytest.MonkeyPatch, url: str, told: str
) -> None:
    monkeypatch.setenv("SINFER_BROKER_URL", url)
    with pytest.raises(ConfigError) as error:
        load_settings()
    assert told in str(error.value)
    assert "://" in str(error.value)
