"""Where the tasks come from: the file beside this one, read again when it changes.

Others: ``StaticTaskManager`` (in code), ``SqlTaskManager`` (a table),
``NatsKvTaskManager`` (a bucket), or a ``TaskManager`` of your own.
"""

from __future__ import annotations

from pathlib import Path

from sinfer import YamlTaskManager

from .task import NewProductTask

FILE = Path(__file__).with_name("tasks.yaml")

tasks: YamlTaskManager[NewProductTask] = YamlTaskManager(FILE)
