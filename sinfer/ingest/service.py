"""The process behind ``sinfer ingest``: set up, run until SIGTERM or SIGINT, clean up."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import signal
from typing import Any

from sinfer.errors import SinferError
from sinfer.hooks.call import describe
from sinfer.ingest.supervisor import Supervisor
from sinfer.products.registry import find_product
from sinfer.settings import settings
from sinfer.store.connection import Store
from sinfer.store.hints import Hints

_log = logging.getLogger(__name__)


class IngestLoop(asyncio.SelectorEventLoop):
    """An event loop that ends with what it was started for, and not because a hook stops it.

    That would end the process in good order, again and again at the same message.

    Attributes:
        main: what it was started for.
    """

    main: asyncio.Task[Any] | None = None

    def stop(self) -> None:
        """Stop it, at the end; before that it is refused."""
        if self.main is not None and not self.main.done():
            raise RuntimeError("a hook must not stop the ingestor's event loop: others use it too")
        super().stop()


def run(product_name: str, hints: Hints, task_id: str | None = None) -> None:
    """Ingest a product until SIGTERM or SIGINT.

    Args:
        product_name: a product's name or module.
        hints: tells workers of closed windows.
        task_id: the one task to ingest; all by default.

    Raises:
        ConfigError: the product, the task or a setting is wrong.
    """
    product = find_product(product_name, settings().products)
    gc.freeze()  # imports stay for good: keep the collector from walking them

    async def ingest() -> None:
        store = Store.from_settings()
        supervisor = Supervisor(store, product, hints, task_id, is_process=True)
        loop = asyncio.get_running_loop()
        if isinstance(loop, IngestLoop):
            loop.main = asyncio.current_task()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
        try:
            await supervisor.run()
        finally:
            await store.aclose()

    faulthandler.enable()  # a hook that crashes leaves a trace in the log
    try:
        with asyncio.Runner(loop_factory=IngestLoop) as runner:
            runner.run(ingest())
    except SinferError:
        raise
    except BaseException as error:
        _log.critical("the ingestor ends: %s", describe(error), exc_info=error)
        raise
