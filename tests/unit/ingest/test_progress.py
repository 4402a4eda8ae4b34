"""Progress against a model of a JetStream consumer: filters, losses, redeliveries and crashes."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sinfer.ingest.progress import Progress

LENGTH = 25


class Consumer:
    """A pull consumer with explicit acks, as the server keeps it."""

    def __init__(self, matching: set[int]) -> None:
        self.matching = matching
        self.stream_seq = 0
        self.consumer_seq = 0
        self.unacknowledged: dict[int, int] = {}

    def deliver(self) -> tuple[int, int, int] | None:
        """The next message for the first time: delivered, stream and consumer sequence."""
        following = [seq for seq in self.matching if seq > self.stream_seq]
        if not following:
            return None
        self.stream_seq = min(following)
        self.consumer_seq += 1
        self.unacknowledged[self.stream_seq] = 1
        return 1, self.stream_seq, self.consumer_seq

    def deliver_again(self, choice: int) -> tuple[int, int, int] | None:
        if not self.unacknowledged:
            return None
        stream_seq = sorted(self.unacknowledged)[choice % len(self.unacknowledged)]
        self.unacknowledged[stream_seq] += 1
        self.consumer_seq += 1
        return self.unacknowledged[stream_seq], stream_seq, self.consumer_seq

    @property
    def ack_floor(self) -> int:
        return min(self.unacknowledged, default=self.stream_seq + 1) - 1


STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["deliver", "deliver", "deliver", "again", "commit", "crash", "floor", "reconnect"]
        ),
        st.booleans(),
        st.integers(min_value=0, max_value=LENGTH),
    ),
    max_size=120,
)


@settings(max_examples=400)
@given(st.sets(st.integers(min_value=1, max_value=LENGTH)), STEPS)
def test_each_message_is_stored_once_whatever_happens(
    matching: set[int], steps: list[tuple[str, bool, int]]
) -> None:
    consumer = Consumer(matching)
    progress = Progress(0)
    progress.follow(0, 0)
    stored: list[int] = []
    stored_state: tuple[int, list[tuple[int, int]]] = (0, [])
    in_hand: list[int] = []
    deliveries: list[int] = []

    def receive(delivery: tuple[int, int, int] | None, arrives: bool) -> None:
        if delivery is None or not arrives:
            return
        delivered, stream_seq, consumer_seq = delivery
        deliveries.append(stream_seq)
        if progress.accept(delivered, stream_seq, consumer_seq):
            in_hand.append(stream_seq)

    def commit(acknowledged: bool) -> None:
        nonlocal stored_state
        stored.extend(in_hand)
        in_hand.clear()
        stored_state = (progress.position, progress.ahead)
        if acknowledged:
            for stream_seq in deliveries:
                consumer.unacknowledged.pop(stream_seq, None)
        deliveries.clear()
        _check_covers(progress, matching, set(stored))

    for step, flag, choice in steps:
        if step == "deliver":
            receive(consumer.deliver(), flag)
        elif step == "again":
            receive(consumer.deliver_again(choice), flag)
        elif step == "commit":
            commit(flag)
        elif step == "floor":
            progress.settle(consumer.ack_floor)
        elif step == "reconnect":
            progress.lose_track()
        elif step == "crash":
            in_hand.clear()
            deliveries.clear()
            progress = Progress(*stored_state)
            progress.follow(consumer.consumer_seq, consumer.stream_seq)
            progress.settle(consumer.ack_floor)

    while (delivery := consumer.deliver()) is not None:
        receive(delivery, True)
    commit(True)
    while consumer.unacknowledged:
        receive(consumer.deliver_again(0), True)
        commit(True)
    assert sorted(stored) == sorted(matching)
    progress.settle(consumer.ack_floor)
    assert progress.ahead == []
    assert progress.position >= max(matching, default=0)


def _check_covers(progress: Progress, matching: set[int], stored: set[int]) -> None:
    covered = {seq for seq in matching if seq <= progress.position}
    for first, last in progress.ahead:
        covered |= {seq for seq in matching if first <= seq <= last}
    assert covered == stored


def test_what_a_filter_leaves_out_is_no_gap() -> None:
    progress = Progress(0)
    progress.follow(0, 0)
    for consumer_seq, stream_seq in enumerate([1, 3, 6, 7], start=1):
        assert progress.accept(1, stream_seq, consumer_seq)
    assert (progress.position, progress.ahead, progress.gap) == (7, [], None)


def test_a_gap_in_the_consumers_numbers_is_remembered_until_it_is_closed() -> None:
    progress = Progress(0)
    progress.follow(0, 0)
    progress.accept(1, 1, 1)
    progress.accept(1, 6, 3)
    progress.accept(1, 9, 4)
    assert (progress.position, progress.ahead, progress.gap) == (1, [(6, 9)], (2, 5))
    assert progress.accept(2, 4, 5)
    assert not progress.accept(2, 7, 6)
    assert progress.ahead == [(4, 4), (6, 9)]
    progress.settle(5)
    assert (progress.position, progress.ahead) == (9, [])
