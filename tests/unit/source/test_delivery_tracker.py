"""What was read, against a model of a JetStream consumer that filters, loses and redelivers."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from sinfer.source.delivery_tracker import DeliveryTracker

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
@given(st.sets(st.integers(min_value=1, max_value=LENGTH)), STEPS, st.booleans())
def test_each_message_is_stored_once_whatever_happens_and_in_order_where_the_stream_can_be_read(
    matching: set[int], steps: list[tuple[str, bool, int]], stream_answers: bool
) -> None:
    consumer = Consumer(matching)
    progress = DeliveryTracker(0)
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
        new = progress.accept(delivered, stream_seq, consumer_seq)
        if new is None:
            fetch(*progress.missing_before(stream_seq))
            new = progress.accept(delivered, stream_seq, consumer_seq)
            assert new is not None
        if new:
            in_hand.append(stream_seq)

    def fetch(first: int, last: int) -> None:
        if stream_answers:
            progress.fill(first, last)
            in_hand.extend(seq for seq in sorted(matching) if first <= seq <= last)
        else:
            progress.give_up(last)

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
            progress = DeliveryTracker(*stored_state)
            progress.follow(consumer.consumer_seq, consumer.stream_seq)
            progress.settle(consumer.ack_floor)
            for first, last in progress.missing(0, consumer.stream_seq):
                fetch(first, last)

    while (delivery := consumer.deliver()) is not None:
        receive(delivery, True)
    commit(True)
    while consumer.unacknowledged:
        receive(consumer.deliver_again(0), True)
        commit(True)
    assert sorted(stored) == sorted(matching)
    if stream_answers:
        assert stored == sorted(matching)
    progress.settle(consumer.ack_floor)
    assert progress.ahead == []
    assert progress.position >= max(matching, default=0)


def _check_covers(progress: DeliveryTracker, matching: set[int], stored: set[int]) -> None:
    covered = {seq for seq in matching if seq <= progress.position}
    for first, last in progress.ahead:
        covered |= {seq for seq in matching if first <= seq <= last}
    assert covered == stored


def test_what_a_filter_leaves_out_is_no_gap() -> None:
    progress = DeliveryTracker(0)
    progress.follow(0, 0)
    for consumer_seq, stream_seq in enumerate([1, 3, 6, 7], start=1):
        assert progress.accept(1, stream_seq, consumer_seq)
    assert (progress.position, progress.ahead, progress.gap) == (7, [], None)


def test_a_gap_in_the_consumers_numbers_is_remembered_until_it_is_closed() -> None:
    progress = DeliveryTracker(0)
    progress.follow(0, 0)
    progress.accept(1, 1, 1)
    assert progress.accept(1, 6, 3) is None
    assert progress.missing_before(6) == (2, 5)
    progress.give_up(5)
    assert progress.accept(1, 6, 3)
    assert progress.accept(1, 9, 4)
    assert (progress.position, progress.ahead, progress.gap) == (1, [(6, 9)], (2, 5))
    assert progress.accept(2, 4, 5)
    assert not progress.accept(2, 7, 6)
    assert progress.ahead == [(4, 4), (6, 9)]
    progress.settle(5)
    assert (progress.position, progress.ahead) == (9, [])


def test_what_is_missing_up_to_a_sequence_leaves_out_what_was_read_ahead() -> None:
    progress = DeliveryTracker(3, [(5, 6), (9, 12)])
    assert progress.missing(0, 14) == [(4, 4), (7, 8), (13, 14)]
    assert progress.missing(0, 7) == [(4, 4), (7, 7)]
    assert progress.missing(7, 10) == [(8, 8)]
    assert progress.missing(12, 12) == []
    assert DeliveryTracker(3).missing(0, 3) == []


def test_what_was_read_from_the_stream_counts_as_read() -> None:
    progress = DeliveryTracker(2)
    progress.follow(5, 6)
    assert progress.missing(0, 6) == [(3, 6)]
    progress.fill(3, 4)
    progress.fill(5, 6)
    assert (progress.position, progress.ahead) == (6, [])
    assert progress.accept(1, 9, 6)
    assert progress.position == 9
    assert progress.accept(2, 4, 7) is False
