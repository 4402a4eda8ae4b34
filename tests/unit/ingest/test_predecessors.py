"""What partitions that a task had before have read is passed over, in whatever order it comes."""

from __future__ import annotations

import pytest

from sinfer.ingest.predecessors import Predecessors, joined
from sinfer.source.batch import Batch
from sinfer.source.checkpoint import Checkpoint, pack_checkpoint
from sinfer.source.config import JetStreamSource
from sinfer.types.message import Message


def message(seq: int, subject: str) -> Message:
    return Message(b"", subject, None, seq, seq)


def test_of_each_subject_what_was_read_is_passed_over() -> None:
    others = Predecessors("s.>", {"s.a": Checkpoint("made", 10, [(20, 22)])})
    batch = Batch(
        [message(seq, "s.a") for seq in (30, 5, 21, 15, 10)] + [message(9, "s.b")],
        Checkpoint("made", 30),
        pending=3,
    )
    rest = others.without_taken(batch)
    assert [(m.stream_seq, m.subject) for m in rest.messages] == [
        (30, "s.a"), (15, "s.a"), (9, "s.b"),
    ]  # fmt: skip
    assert (rest.state, rest.pending) == (batch.state, 3), "it counts as read"


@pytest.mark.parametrize(
    ("subject", "marks", "deliver", "behind"),
    [
        ("s.a", {}, "all", None),
        ("s.a", {"s.>": 7}, "all", 7),
        ("s.a", {"s.>": 7, "s.*": 9}, "new", 9),
        ("s.>", {"s.a": 7, "s.b": 9}, "all", None),  # nobody has read s.c
        ("s.>", {"s.a": 7, "s.b": 9}, "new", 7),
    ],
)
def test_a_partition_begins_where_others_ended(
    subject: str, marks: dict[str, int], deliver: str, behind: int | None
) -> None:
    read = {name: Checkpoint("made", position) for name, position in marks.items()}
    source = JetStreamSource.model_validate({"stream": "S", "deliver": deliver})
    assert Predecessors(subject, read).begins_behind(source) == behind


def test_a_mark_keeps_what_was_read_at_an_earlier_start() -> None:
    earlier = Checkpoint("made", 50, [(60, 70)])
    now = Checkpoint("made", 3, [(40, 55), (58, 59), (80, 81)])
    found = Checkpoint.decode(joined(pack_checkpoint(earlier), pack_checkpoint(now)))
    assert (found.position, found.ahead) == (55, [(58, 70), (80, 81)])
    other = Checkpoint("made again", 2)
    assert Checkpoint.decode(joined(pack_checkpoint(earlier), pack_checkpoint(other))) == other
    assert joined(None, pack_checkpoint(now)) == pack_checkpoint(now)
