"""Whether a refusal of a v2 server is due to the request, or to a model that is not ready yet.

Servers answer 400 or 404 for a model that they are loading, as they do for a bad request. So a
refusal counts only once the server says that the model is ready, or cannot tell.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from sinfer.errors import InferenceUnavailableError

_FRESH_S = 1.0
"""How long an answer may be used: the search for one bad item asks once."""

NotReady = tuple[str, bool]
"""What the server says that is not ready, and whether it says so beyond doubt."""


class Readiness:
    """Asks one model's server.

    Args:
        ask: asks it; None when the model is ready or that cannot be told.

    Attributes:
        has_begun: whether calls need no ``before`` any more.
    """

    def __init__(self, ask: Callable[[], Awaitable[NotReady | None]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._ready_until_s = float("-inf")
        self.has_begun = False

    async def before(self) -> None:
        """Before a call: the first one of all is not made while the model is not ready.

        Raises:
            InferenceUnavailableError: it is not.
        """
        if not self.has_begun:
            await self._check(beyond_doubt=True)
            self.has_begun = True

    async def refused(self) -> None:
        """After a call was refused.

        Raises:
            InferenceUnavailableError: the model is not ready; the request had no chance.
        """
        await self._check(beyond_doubt=False)

    async def _check(self, *, beyond_doubt: bool) -> None:
        async with self._asking:
            if time.monotonic() < self._ready_until_s:
                return
            found = await self._ask()
            if found is not None and (found[1] or not beyond_doubt):
                raise InferenceUnavailableError(
                    f"the model is not ready: {found[0]}", not_begun=True
                )
            if found is None:
                self._ready_until_s = time.monotonic() + _FRESH_S
