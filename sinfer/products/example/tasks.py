"""Where the example's tasks come from: this file. Others keep them in YAML, SQL or NATS."""

from __future__ import annotations

import os

from sinfer import StaticTaskManager
from sinfer.products.example.task import ExampleTask

THRESHOLD = 0.2
"""About one sample in twelve is above it."""

tasks: StaticTaskManager[ExampleTask] = StaticTaskManager(
    [
        {
            "id": "ex_1",
            "threshold": THRESHOLD,  # the product's own setting: see task.py
            # NATS servers are those of SINFER_NATS_SERVERS where a task names none.
            "source": {"stream": "IN", "subject": "in.w1"},
            # Whatever comes first closes the window: its end, 100 messages or 1 MiB.
            "window": {"type": "tumbling", "size": "5s", "max_count": 100, "max_bytes": "1MiB"},
            "inference": {
                "type": "v2",
                "url": os.environ.get("EXAMPLE_MODEL_URL", "http://127.0.0.1:8000"),
                "model": "example",
            },
            # Every result goes to every sink.
            "sinks": [
                {"type": "jetstream", "subject": "out.w1"},
                {
                    "type": "sql",
                    "url": os.environ.get("EXAMPLE_DATABASE_URL", "sqlite:///results.sqlite"),
                    "table": "results",
                },
            ],
        }
    ]
)
