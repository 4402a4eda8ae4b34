"""Whether windows can become full where the server delivers only so many unfinished messages."""

from __future__ import annotations

from sinfer.errors import ConfigError
from sinfer.products.task import InferTaskConfig


def check_budget(task: InferTaskConfig, max_ack_pending: int | None) -> str:
    """With ``ack: done`` the server delivers no more than so many unfinished messages.

    Args:
        task: whose windows have to do with that.
        max_ack_pending: of the consumer; None or less than 0 for any number.

    Returns:
        What that means, for people; empty when there is no limit.

    Raises:
        ConfigError: not even one window could become full.
    """
    if task.source.ack != "done" or max_ack_pending is None or max_ack_pending < 0:
        return ""
    largest = task.window.largest
    if largest is not None and largest > max_ack_pending:
        raise ConfigError(
            f"windows of {largest} messages never become full, since the consumer allows"
            f" {max_ack_pending} unacknowledged messages; raise its max_ack_pending"
        )
    return f"all unfinished windows together hold at most {max_ack_pending} messages"
