"""What is kept of a partition beside its windows, and changes with a commit now and then."""

from __future__ import annotations

from dataclasses import dataclass, field

from sinfer.store.keys import CONFIG_FIELD, INCARNATION_FIELD, VERSION_FIELD
from sinfer.store.partition.task_config import earlier_field
from sinfer.windows.ids import Scope


@dataclass(frozen=True, slots=True)
class PartitionSettings:
    """What a commit sets; None leaves a setting as it is.

    Attributes:
        config: the configuration from now on, packed.
        earlier: configurations that windows were opened under, by the names in their records.
        incarnation: which messages the partition reads; empty to forget it.
        version: of the pipeline that opens windows from now on.
        layout: how often the task has changed how it cuts windows.
        repeats_to: results of messages up to this stream sequence may be in sinks already.
        forgets_watermark: whether the next item begins a new one.
        alone: whether windows of this partition wait for no others from now on; its scope.
    """

    config: str | None = None
    earlier: dict[str, str] = field(default_factory=dict)
    incarnation: str | None = None
    version: str | None = None
    layout: int | None = None
    repeats_to: int | None = None
    forgets_watermark: bool = False
    alone: Scope | None = None

    def fields(self) -> dict[str, str]:
        """As fields of ``meta``."""
        found = {
            CONFIG_FIELD: self.config,
            INCARNATION_FIELD: self.incarnation,
            VERSION_FIELD: self.version,
            "layout": None if self.layout is None else str(self.layout),
            "repeats_to": None if self.repeats_to is None else str(self.repeats_to),
            "watermark": "" if self.forgets_watermark else None,
        }
        if self.alone is not None:
            found |= {"partitions": str(self.alone), "idle": "1"}
        kept = {earlier_field(name): text for name, text in self.earlier.items()}
        return kept | {name: value for name, value in found.items() if value is not None}
