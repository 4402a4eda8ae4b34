"""Who is missing, by who is there, and what to type then."""

from __future__ import annotations

import pytest

from sinfer.liveness.absences import listening, missing_beat, missing_worker
from sinfer.settings import Settings
from sinfer.store.boards.running_processes import Presence, Present
from sinfer.tasks import application as celery_app
from sinfer.types.queues import TICK_QUEUE, product_queue

PUMPS = product_queue("pumps")


def worker(
    *products: str, queues: list[str] | None = None, name: str = "celery@here", **more: object
) -> Presence:
    own = [TICK_QUEUE, *map(product_queue, products)]
    return Presence(
        "worker", name, 1, "t", products=list(products), queues=own if queues is None else queues,
        **more,  # type: ignore[arg-type]
    )  # fmt: skip


def beat(**more: str) -> Presence:
    return Presence("beat", "here", 2, "t", **more)  # type: ignore[arg-type]


def present(*processes: Presence, tick_ms: int | None = 100) -> Present:
    return Present(list(processes), tick_ms)


def test_nobody_is_missing_where_a_worker_has_the_product_and_its_queue() -> None:
    there = present(worker("other"), worker("pumps"), beat())
    assert listening("pumps", there) == [worker("pumps")]
    assert missing_worker("pumps", there) == ""
    assert missing_beat(there, 0.2) == ""


@pytest.mark.parametrize(
    ("workers", "why", "command"),
    [
        ([], "no worker runs", "SINFER_PRODUCTS=plant.pumps celery -A sinfer.tasks worker"),
        (
            [worker("valves"), worker("fans", name="fans@there")],
            "celery@here, fans@there knows valves, fans",
            "SINFER_PRODUCTS=plant.pumps celery -A sinfer.tasks worker",
        ),
        ([worker()], "celery@here knows no product", "SINFER_PRODUCTS=plant.pumps celery"),
        (
            [worker("pumps", queues=[TICK_QUEUE])],
            "celery@here listens to sinfer.tick only (-Q)",
            "celery -A sinfer.tasks worker -Q sinfer.pumps",
        ),
        (
            [worker("pumps", deaf="it is not connected")],
            "celery@here: it is not connected",
            "",
        ),
        (
            [worker(queues=[PUMPS, TICK_QUEUE])],
            "celery@here knows no product",
            "SINFER_PRODUCTS=plant.pumps celery -A sinfer.tasks worker",
        ),
        (
            [worker(broken={"plant.pumps": "No module named 'numpy'"})],
            "celery@here could not load it: No module named 'numpy'",
            "",
        ),
    ],
)
def test_it_is_told_why_no_worker_listens(workers: list[Presence], why: str, command: str) -> None:
    text = missing_worker("pumps", present(*workers), ["plant.pumps"])
    assert why in text
    assert command in text


def test_an_installed_product_needs_no_setting() -> None:
    assert missing_worker("pumps", present()).endswith(": celery -A sinfer.tasks worker")


def test_what_is_to_be_typed_can_be_typed() -> None:
    text = missing_worker("pumps", present(), ["a b", "c'd"])
    assert """SINFER_PRODUCTS='a b,c'"'"'d' celery""" in text


@pytest.mark.parametrize("tick_ms", [None, 30_000])
@pytest.mark.parametrize(
    ("processes", "text"),
    [
        ([worker("pumps")], "no beat runs"),
        ([], "no beat runs"),
        ([worker("pumps", queues=[PUMPS]), beat()], "worker -Q sinfer.tick"),
        (
            [worker("pumps", broker="redis://a/1"), beat(broker="redis://b/1")],
            "broker is redis://b/1",
        ),
        ([worker("pumps"), beat()], "what its log and that of the workers say"),
    ],
)
def test_it_is_told_why_no_tick_comes_through(
    processes: list[Presence], text: str, tick_ms: int | None
) -> None:
    assert text in missing_beat(present(*processes, tick_ms=tick_ms), 0.2)


def test_beat_is_not_missed_while_its_ticks_come_however_seldom() -> None:
    assert missing_beat(present(worker("pumps"), tick_ms=100), 0.2) == ""
    assert missing_beat(present(worker("pumps"), tick_ms=50_000), 20.0) == ""


def test_beat_is_not_blamed_where_no_worker_can_take_its_ticks() -> None:
    assert missing_beat(present(beat(), tick_ms=None), 0.2) == ""
    assert missing_beat(present(worker(deaf="stopped"), beat(), tick_ms=None), 0.2) == ""


def test_a_broker_is_shown_without_passwords_sentinels_included(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for url, shown in (
        ("sentinel://:secret1@a:1,b:2/mine/1", "sentinel://a:1,b:2/mine/1"),
        ("redis://:secret1@a:1;amqp://:secret2@b:2", "redis://a:1;amqp://b:2"),
    ):
        monkeypatch.setattr(celery_app, "settings", lambda url=url: Settings(broker_url=url))
        assert celery_app.shown_broker() == shown
