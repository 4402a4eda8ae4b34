"""What every inference client has in common."""

from __future__ import annotations

from abc import abstractmethod
from datetime import timedelta
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from sinfer.config.model import ConfigModel
from sinfer.config.plugins import Plugin
from sinfer.config.units import Duration, unit
from sinfer.types.check import Checked

MaxConcurrency = Annotated[int, Field(ge=1, le=1000)] | Literal["auto"]
"""So many calls at once, or as many as the model bears."""

_MOST_LEARNED = 128
"""Calls of one task that one worker process makes at once, where it is learned how many."""


class InferenceConfig(ConfigModel):
    """The ``inference:`` part of a task."""

    type: str
    timeout: Duration = Field(default="5s", validate_default=True, gt=timedelta(0))
    """Total time for one call, connecting included."""
    max_batch: int | None = Field(default=None, ge=1, json_schema_extra=unit("items"))
    """Send windows of more items in several calls of at most so many."""
    share_calls: int | None = Field(default=None, ge=1, json_schema_extra=unit("items"))
    """Ask about windows that are ready together in one call of at most so many items."""
    share_wait: Duration = Field(
        default="5ms", validate_default=True, ge=timedelta(0), le=timedelta(seconds=10)
    )
    """Longest wait of a window for others that share its call; alone, it waits for nobody."""
    max_concurrency: MaxConcurrency = Field(default=64, json_schema_extra=unit("calls"))
    """Calls of one task under way at once in one worker process; ``auto``: as many as the model
    bears, which all worker processes learn together."""
    endpoint_concurrency: int | None = Field(default=None, ge=1, json_schema_extra=unit("calls"))
    """Calls to the model under way at once in all worker processes together, of whichever tasks."""
    breaker_failures: int = Field(default=5, ge=1, json_schema_extra=unit("failures"))
    """After so many failures in a row nobody calls the model for a while."""
    retry_base: Duration = Field(default="500ms", validate_default=True)
    """First wait before a failed window is tried again; it doubles each time."""
    retry_max: Duration = Field(default="30s", validate_default=True)
    """Longest wait between two tries."""

    @property
    def learns_concurrency(self) -> bool:
        """Whether it is learned how many calls the model bears."""
        return self.max_concurrency == "auto"

    @property
    def most_at_once(self) -> int:
        """Calls of one task under way at once in one worker process at most."""
        return _MOST_LEARNED if self.max_concurrency == "auto" else self.max_concurrency


class InferenceClient(Plugin[InferenceConfig]):
    """Sends what ``InferPipeline.build_request`` made to a model and returns its answer.

    One client serves all windows of a task in a process, concurrently, on one event loop. It is
    made and closed on that loop.
    """

    kind: ClassVar[str] = "inference"
    Config: ClassVar[type[ConfigModel]] = InferenceConfig

    def __init__(self, config: Any) -> None:
        self.config = config

    @abstractmethod
    async def infer(self, request: Any, *, idempotency_key: str = "") -> Any:
        """Ask the model.

        Args:
            request: what ``build_request`` returned.
            idempotency_key: the same for every try of the same request.

        Raises:
            InferenceError: one of its subclasses, which decide what happens next.
        """

    @property
    def endpoint(self) -> str:
        """The server; empty where there is none, or each task is by itself."""
        return ""

    @property
    def called(self) -> str:
        """The model that is called. The failures and calls of all tasks that call the same are
        counted together, and nobody else's with them; empty where each task is by itself."""
        return self.endpoint and name_of_model(self.type, self.endpoint, self.config)

    async def check(self) -> list[Checked]:
        """Tell whether the model could be asked, without asking it; `sinfer check` wants to know.

        A client may implement this where its server takes questions that change nothing. It is
        asked with a ``timeout`` of a few seconds, once for all tasks with the same settings.

        Returns:
            What was found; nothing, as by default, where there is nobody to ask.
        """
        return []

    async def aclose(self) -> None:
        """Close connections."""


def name_of_model(kind: str, place: str, config: Any) -> str:
    """What a model is called among all that are called: protocol, place, name and version."""
    told = (getattr(config, field, None) for field in ("model", "version", "label"))
    model = ":".join(str(part) for part in told if part)
    return " ".join(part for part in (kind, place, model) if part)
