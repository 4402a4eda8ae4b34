"""Random histories: a state machine of Hypothesis, run as a test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

STEPS = 30
"""Of one history, at most."""


def run_histories(machine: type[RuleBasedStateMachine], histories: int) -> None:
    """Run a machine, however slow the computer is.

    Args:
        machine: makes one history.
        histories: how many.
    """
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=histories,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
