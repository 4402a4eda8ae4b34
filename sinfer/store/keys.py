"""Every Redis key that sinfer uses, and what it holds. No other file spells a key.

The keys of one partition share the hash tag ``{product/task/partition}``, so that on Redis Cluster
they live in one slot and a script may touch all of them.

| key                          | type   | holds |
| ---------------------------- | ------ | ----- |
| ``sinfer:{scope}:meta``      | hash   | writer lease, token, time, position, counts, waiters |
| ``sinfer:{scope}:open``      | hash   | open window id → record |
| ``sinfer:{scope}:deadlines`` | zset   | open window id by the time beat closes it (ms) |
| ``sinfer:{scope}:closed``    | hash   | closed or leased window id → reason, closed_ms, record |
| ``sinfer:{scope}:ready``     | zset   | closed window id by the time it may be claimed (ms) |
| ``sinfer:{scope}:sealed``    | zset   | sealed window id by its end (ms, event time) |
| ``sinfer:{scope}:unfinished`` | zset  | open and closed window id by its first stream sequence |
| ``sinfer:{scope}:leases``    | zset   | leased window id by the end of its lease (ms) |
| ``sinfer:{scope}:tokens``    | hash   | window id → fencing token of its last claim |
| ``sinfer:{scope}:attempts``  | hash   | window id → attempts that count; ``excused ID`` → others |
| ``sinfer:{scope}:deaths``    | hash   | window id → how often its lease ran out |
| ``sinfer:{scope}:unreadable`` | hash  | closed window id → why its record cannot be read |
| ``sinfer:{scope}:costly``    | string | why its windows cost several calls each (expires) |
| ``sinfer:{scope}:refs``      | hash   | shared segment → number of holders |
| ``sinfer:{scope}:held``      | hash   | shared segment → messages in it |
| ``sinfer:{scope}:members``   | hash   | segment → stream sequences of each of its chunks |
| ``sinfer:{scope}:aside``     | hash   | closed window id → since when it is set aside, and why |
| ``sinfer:{scope}:dead``      | stream | dead letters |
| ``sinfer:{scope}:ledger``    | stream | one entry for each finished window; capped |
| ``sinfer:{scope}:gone``      | hash   | sequence → up to which messages are gone, how many |
| ``sinfer:{scope}:away``      | hash   | sink that takes nothing now → since when, why |
| ``sinfer:{scope}:unusable``  | string | why a worker cannot begin its windows (expires) |
| ``sinfer:{scope}:seg:<name>`` | list   | packed chunks of messages |
| ``sinfer:{scope}:bad:<name>`` | set    | given up messages of a shared segment; f: filtered |
| ``sinfer:{scope}:ask:<name>`` | string | an answer, in case it is asked for again (expires) |
| ``sinfer:{scope}:out:<id>``  | hash   | model output of a window, and the sinks that have it |
| ``sinfer:partitions``        | set    | every scope that has state |
| ``sinfer:starts``            | hash   | scope → the number of its last start, from 0 |
| ``sinfer:consumers``         | hash   | durable consumer → the scope that reads it |
| ``sinfer:due``               | zset   | scope by the time beat has to look at it (ms) |
| ``sinfer:endpoint:{<name>}:clock`` | hash | time (expires) |
| ``sinfer:endpoint:{<name>}:slots`` | zset | calls under way by the end of their lease (ms) |
| ``sinfer:endpoint:{<name>}:waiting`` | hash | calls that wait for a place (expires) |
| ``sinfer:endpoint:{<name>}:learned`` | hash | how many calls it bears, by those so far (expires) |
| ``sinfer:endpoint:{<name>}:curve`` | hash | sums over its calls, see latency_curve.py (expires) |
| ``sinfer:endpoint:{<name>}:breaker`` | hash | failures in a row, open_until (ms), its trial |
| ``sinfer:endpoint:{<name>}:ask:<name>`` | string | as above (expires) |
| ``sinfer:paused`` | hash | paused product or task → why, since when, by whom |
| ``sinfer:ask:{<key>}:<name>`` | string | an answer about that key, as above (expires) |
| ``sinfer:faults``            | hash   | partition that beat cannot look after → what is wrong |
| ``sinfer:refusals:<product/task>`` | hash | windows refused whole since one was taken (expires) |
| ``sinfer:clock:{sinfer:due}`` | hash  | time, and when the last tick was, the last sweep, ... |
| ``sinfer:memory``            | hash   | what partitions take of Redis' memory, which tasks stop |
| ``sinfer:mark``              | string | written and removed, for WAITAOF to wait for |
| ``sinfer:slow``              | hash   | worker process → hooks that take long there (expires) |
| ``sinfer:alive:{sinfer:due}`` | zset  | worker process or beat by its last sign of life (ms) |
| ``sinfer:read:<product/task>`` | hash  | partition that the task has no more → its position |
| ``sinfer:endpoints:<product>`` | hash   | task → endpoint that it calls |
| ``sinfer:ingestors:<product>`` | zset   | ingestor by the time of its last sign of life (ms) |
| ``sinfer:making:<product>`` | hash   | task → how often making its pipeline began |
| ``sinfer:tasks:<product>`` | hash   | ingestor → what is wrong with its tasks (expires) |
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from sinfer.windows.ids import Scope, escape

PREFIX = "sinfer:"
PARTITIONS = f"{PREFIX}partitions"
STARTS = f"{PREFIX}starts"
CONSUMERS = f"{PREFIX}consumers"
DUE = f"{PREFIX}due"
FAULTS = f"{PREFIX}faults"
CLOCK = f"{PREFIX}clock:{{{DUE}}}"
"""Where the time of all that belongs to no partition is noted. It is in the slot of ``DUE``."""

ALIVE = f"{PREFIX}alive:{{{DUE}}}"
"""Who works, and who is beat. It is in the slot of ``DUE``."""

WAKE = f"{PREFIX}wake:"
"""Before the name of a worker process: the channel on which it is woken. It holds nothing."""

MARK = f"{PREFIX}mark"
MEMORY = f"{PREFIX}memory"

PAUSED = f"{PREFIX}paused"
SLOW_HOOKS = f"{PREFIX}slow"

CONFIG_FIELD = "config"
"""Field of ``meta`` with the task's configuration; ``config:<name>`` holds earlier ones."""

INCARNATION_FIELD = "incarnation"
"""Field of ``meta``: which messages the partition reads; see ``store.partition.incarnation``."""

CONSUMER_FIELD = "consumer"
"""Field of ``meta``: the durable consumer that the partition reads; see ``boards.consumers``."""

STANDSTILL_FIELD = "standstill"
"""Field of ``meta``: why the source gives no more messages, as long as that is so."""


INDEXED_FIELD = "indexed"
"""Of ``meta``: how many commits there were when ``unfinished`` was complete last."""

VERSION_FIELD = "version"
"""Of ``meta``: of the pipeline that opens windows; where none ever named one it is not there."""

COPIED_FIELD = "mirrored"
"""Field of ``meta``: the last dead letter that a copy was sent of."""

TAKEN_FIELD = "taken"
"""Field of ``meta``: windows of which at least one item came through."""


def asked_beside(key: str, name: str) -> str:
    """An answer that is kept for a while, in the slot of a key without a hash tag."""
    return f"{PREFIX}ask:{{{key}}}:{name}"


def refusals(product: str, task: str) -> str:
    """Windows of a task that were refused whole."""
    return f"{PREFIX}refusals:{escape(product)}/{escape(task)}"


class EndpointKeys:
    """The keys of one endpoint."""

    __slots__ = ("_base", "breaker", "clock", "curve", "learned", "slots", "waiting")

    def __init__(self, endpoint: str) -> None:
        self._base = f"{PREFIX}endpoint:{{{escape(endpoint)}}}:"
        self.clock = f"{self._base}clock"
        self.slots = f"{self._base}slots"
        self.waiting = f"{self._base}waiting"
        self.learned = f"{self._base}learned"
        self.curve = f"{self._base}curve"
        self.breaker = f"{self._base}breaker"

    def asked(self, name: str) -> str:
        """An answer that is kept for a while."""
        return f"{self._base}ask:{name}"


def read_marks(product: str, task: str) -> str:
    """How far partitions were read that a task has no more."""
    return f"{PREFIX}read:{escape(product)}/{escape(task)}"


def endpoints(product: str) -> str:
    """Which endpoints the tasks of a product call."""
    return f"{PREFIX}endpoints:{escape(product)}"


def ingestors(product: str) -> str:
    """Who ingests a product."""
    return f"{PREFIX}ingestors:{escape(product)}"


def making(product: str) -> str:
    """Which pipelines of a product are being made."""
    return f"{PREFIX}making:{escape(product)}"


def task_reports(product: str) -> str:
    """What is wrong with the tasks of a product."""
    return f"{PREFIX}tasks:{escape(product)}"


class PartitionKeys:
    """The keys of one partition; ``partition_keys`` has those of a scope.

    Attributes:
        segment: given a segment's name, the key of its chunks.
        given_up: the same for the messages of a shared segment that were given up.
        asked: given a new name, the key of an answer that is kept for a while.
        output: given a window's id, the key of its model output.
        name: of the partition, in one text.
    """

    __slots__ = (
        "_base", "aside", "asked", "attempts", "awaiting", "closed", "dead", "deadlines", "deaths",
        "given_up", "leases", "ledger", "members", "meta", "name", "open", "outages", "output",
        "ready", "refs", "scope", "segment", "segment_sizes", "tokens", "unfinished", "unreadable",
    )  # fmt: skip

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.name = str(scope)
        self._base = f"{PREFIX}{{{self.name}}}:"
        self.meta = f"{self._base}meta"
        self.open = f"{self._base}open"
        self.deadlines = f"{self._base}deadlines"
        self.closed = f"{self._base}closed"
        self.ready = f"{self._base}ready"
        self.awaiting = f"{self._base}sealed"
        self.leases = f"{self._base}leases"
        self.tokens = f"{self._base}tokens"
        self.attempts = f"{self._base}attempts"
        self.deaths = f"{self._base}deaths"
        self.unfinished = f"{self._base}unfinished"
        self.outages = f"{self._base}away"
        self.unreadable = f"{self._base}unreadable"
        self.refs = f"{self._base}refs"
        self.segment_sizes = f"{self._base}held"
        self.members = f"{self._base}members"
        self.aside = f"{self._base}aside"
        self.dead = f"{self._base}dead"
        self.ledger = f"{self._base}ledger"
        self.segment: Callable[[str], str] = f"{self._base}seg:".__add__
        self.given_up: Callable[[str], str] = f"{self._base}bad:".__add__
        self.asked: Callable[[str], str] = f"{self._base}ask:".__add__
        self.output: Callable[[str], str] = f"{self._base}out:".__add__

    @property
    def gone(self) -> str:
        """Messages that nobody has any more."""
        return f"{self._base}gone"

    @property
    def unusable(self) -> str:
        """Why a worker cannot begin its windows."""
        return f"{self._base}unusable"

    @property
    def costly(self) -> str:
        """Why its windows cost several calls each."""
        return f"{self._base}costly"


partition_keys: Callable[[Scope], PartitionKeys] = lru_cache(maxsize=4096)(PartitionKeys)
"""The keys of a partition; they are spelt once."""
