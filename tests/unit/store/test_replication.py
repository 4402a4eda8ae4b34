"""How many replicas are waited for, as they come and go."""

from __future__ import annotations

import pytest

from sinfer.store.replication import Replicas, Replication


def seen(online: int, history: str = "a") -> Replication:
    return Replication(history, online)


def test_an_answer_counts_replicas_that_follow() -> None:
    told = (
        b"# Replication\r\nrole:master\r\nconnected_slaves:2\r\n"
        b"slave0:ip=127.0.0.1,port=1,state=online,offset=14,lag=0,type=replica\r\n"
        b"slave1:ip=127.0.0.1,port=2,state=wait_bgsave,offset=0,lag=0,type=replica\r\n"
        b"master_replid:8371b4fb\r\n"
    )
    assert Replication.of(told) == Replication("8371b4fb", 1)


def test_one_is_waited_for_as_soon_as_there_are_any() -> None:
    replicas = Replicas(None)
    replicas.look(seen(0), 0.0)
    assert (replicas.needed, replicas.are_gone) == (0, False)
    replicas.look(seen(3), 1.0)
    assert replicas.needed == 1


def test_a_primary_whose_replicas_are_gone_is_not_trusted_for_a_while() -> None:
    replicas = Replicas(None)
    replicas.look(seen(1), 0.0)
    replicas.look(seen(0), 59.0)
    assert (replicas.needed, replicas.are_gone) == (1, False)
    replicas.look(seen(0), 60.0)
    assert (replicas.needed, replicas.are_gone) == (0, True)
    replicas.look(seen(1), 61.0)
    assert (replicas.needed, replicas.are_gone) == (1, False)


def test_a_new_primary_waits_for_its_replicas_to_connect() -> None:
    replicas = Replicas(None)
    replicas.look(seen(1), 0.0)
    replicas.look(seen(0, "b"), 50.0)
    replicas.look(seen(0, "b"), 59.0)
    assert replicas.needed == 1
    replicas.look(seen(0, "b"), 60.0)
    assert (replicas.needed, replicas.are_gone) == (0, True)


@pytest.mark.parametrize("online", [0, 1, 5])
def test_a_number_that_is_set_holds_whatever_there_is(online: int) -> None:
    replicas = Replicas(2)
    replicas.look(seen(online), 0.0)
    replicas.look(seen(online, "b"), 1000.0)
    assert (replicas.needed, replicas.are_gone) == (2, False)


@pytest.mark.parametrize("second", [seen(2), seen(1, "b")])
def test_other_replicas_are_noticed(second: Replication) -> None:
    replicas = Replicas(None)
    assert replicas.look(seen(1), 0.0)
    assert not replicas.look(seen(1), 1.0)
    assert replicas.look(second, 2.0)
