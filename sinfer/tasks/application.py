"""The Celery application: how messages travel. What they do is in ``sinfer.tasks``."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote, urlsplit

from celery import Celery
from celery.loaders.app import AppLoader
from kombu import Queue

from sinfer.config.environment import tell_ignored
from sinfer.config.sentinel_url import SCHEMES, SentinelUrl
from sinfer.logging.masking import without_credentials
from sinfer.settings import settings
from sinfer.types.queues import TICK_QUEUE, TICK_TASK

_BROKER_TIMEOUT_S = 2.0
_HEARTBEAT_S = 10.0
"""How often a worker and RabbitMQ hear of each other: who is silent for twice as long is gone."""

_VISIBILITY_TIMEOUT_S = 12 * 3600
"""Far above any task: what is lost comes back by the window store, not by the broker."""


def shown_broker() -> str:
    """The broker, or each of several, without user and password."""
    return ";".join(map(without_credentials, settings().celery_broker_url.split(";")))


class Loader(AppLoader):
    """Reads no configuration: sinfer has its own, whatever ``CELERY_CONFIG_MODULE`` names."""

    def read_configuration(self, env: str = "") -> dict[str, Any]:
        return {}


class Application(Celery):
    """A Celery application that follows sinfer's settings alone.

    Celery takes broker, backend and loader from ``CELERY_*`` variables before all else. They may be
    meant for another application of the same process, and so are left to it.
    """

    amqp_cls = "sinfer.tasks.connection:AMQP"
    backend_cls = "disabled"

    def connection(self, hostname: str | None = None, *args: Any, **options: Any) -> Any:
        return super().connection(hostname or self.conf.first("broker_url"), *args, **options)

    def connection_for_read(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_read(url or self.conf.first("broker_url"), **options)

    def connection_for_write(self, url: str | None = None, **options: Any) -> Any:
        return super().connection_for_write(url or self.conf.first("broker_url"), **options)


def make_app(queues: list[str]) -> Celery:
    """A Celery application as sinfer uses it.

    Args:
        queues: what a worker serves that names none with ``-Q``.
    """
    tell_ignored(os.environ)
    broker = settings().celery_broker_url
    sentinels = None
    if urlsplit(broker).scheme in SCHEMES:
        sentinels = SentinelUrl.parse(broker)
        broker = _kombu_url(sentinels)
    app = Application("sinfer", broker=broker, loader=Loader, set_as_current=False)
    if broker.startswith("rediss://") or (sentinels is not None and sentinels.has_tls):
        # Left to itself, kombu accepts any certificate.
        app.conf.broker_use_ssl = settings().redis_tls.redis_options()
    app.conf.update(
        accept_content=["json"],
        task_serializer="json",
        event_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=False,  # the store counts attempts; the broker must not loop
        task_publish_retry=False,
        task_default_queue=TICK_QUEUE,
        task_queues=[Queue(name) for name in queues],
        task_routes={TICK_TASK: {"queue": TICK_QUEUE}},
        worker_pool="sinfer.tasks.prefork:TaskPool",
        worker_consumer="sinfer.tasks.consumer:Consumer",
        beat_scheduler="sinfer.tasks.beat:Scheduler",
        worker_prefetch_multiplier=1,
        worker_send_task_events=False,  # a Flower that runs asks for them, as -E does
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,  # forever
        broker_connection_timeout=_BROKER_TIMEOUT_S,
        broker_channel_error_retry=True,  # a queue may be unavailable while its broker starts
        broker_heartbeat=_HEARTBEAT_S,
        broker_transport_options={
            "visibility_timeout": _VISIBILITY_TIMEOUT_S,
            "socket_timeout": _BROKER_TIMEOUT_S,
            "socket_connect_timeout": _BROKER_TIMEOUT_S,
            "socket_keepalive": True,
            "read_timeout": _BROKER_TIMEOUT_S,  # of RabbitMQ
            "write_timeout": _BROKER_TIMEOUT_S,
            "max_retries": 0,
            **({} if sentinels is None else _sentinel_options(sentinels)),
        },
        timezone="UTC",
        enable_utc=True,
    )
    return app


def _kombu_url(sentinels: SentinelUrl) -> str:
    """As kombu writes it: one URL for each Sentinel."""
    who = ""
    if sentinels.username is not None or sentinels.password is not None:
        who = f"{quote(sentinels.username or '', '')}:{quote(sentinels.password or '', '')}@"
    return ";".join(
        f"sentinel://{who}{f'[{host}]' if ':' in host else host}:{port}/{sentinels.database}"
        for host, port in sentinels.sentinels
    )


def _sentinel_options(sentinels: SentinelUrl) -> dict[str, Any]:
    """What kombu's transport wants to know besides."""
    asking: dict[str, Any] = {
        "username": sentinels.sentinel_username,
        "password": sentinels.sentinel_password,
        "socket_timeout": _BROKER_TIMEOUT_S,
        "socket_connect_timeout": _BROKER_TIMEOUT_S,
    }
    if sentinels.has_tls:
        asking |= {"ssl": True, **settings().redis_tls.redis_options()}
    return {"master_name": sentinels.name, "sentinel_kwargs": asking}


def waiting_messages(channel: Any, queue: str) -> int:
    """Messages in a queue that no worker has taken yet.

    The queue is declared as Celery declares it. That tells its length whatever the broker is, and
    does no harm whether it is there or not.

    Args:
        channel: of a connection to the broker.
        queue: its name.
    """
    declared = Queue(queue)
    answer = channel.queue_declare(
        queue=queue,
        durable=declared.durable,
        exclusive=declared.exclusive,
        auto_delete=declared.auto_delete,
    )
    return int(answer.message_count)
