"""The pytest fixtures of ``sinfer.testing``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, TypeAlias

from sinfer.extras import extras_named
from sinfer.testing.model import FakeModel
from sinfer.testing.tester import TaskTester

with extras_named("sinfer.testing: "):
    import pytest

MakeTester: TypeAlias = Callable[..., TaskTester]
"""What the fixture ``task_tester`` gives: call it as ``TaskTester``."""


@pytest.fixture
def task_tester() -> Iterator[MakeTester]:
    """Makes task testers, which are closed when the test ends."""
    with ExitStack() as ending:

        def make(*args: Any, **settings: Any) -> TaskTester:
            return ending.enter_context(TaskTester(*args, **settings))

        yield make


@pytest.fixture
def fake_model() -> FakeModel:
    """A model that answers nothing until ``fake_model.answer`` is set."""
    return FakeModel()
