"""For the tests of products: run a task without servers, with a clock and a model of your own.

``TaskTester`` works by itself. As a pytest plugin, with ``pytest_plugins = ["sinfer.testing"]`` in
a test module or in the top ``conftest.py``, this offers the fixtures ``task_tester`` and
``fake_model``.

(PYTEST_DONT_REWRITE: there are no assertions in here, and tests may import it first.)
"""

from __future__ import annotations

from sinfer.local.trace import Call, ProcessedWindow
from sinfer.testing.fixtures import MakeTester, fake_model, task_tester
from sinfer.testing.model import FakeModel, v2_inputs, v2_response
from sinfer.testing.tester import START, TaskTester

__all__ = [
    "START",
    "Call",
    "FakeModel",
    "MakeTester",
    "ProcessedWindow",
    "TaskTester",
    "fake_model",
    "task_tester",
    "v2_inputs",
    "v2_response",
]
