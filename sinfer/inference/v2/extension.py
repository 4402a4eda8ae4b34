"""Whether a v2 server has binary tensors, as it says itself.

Servers that list the extension are asked with it (Triton, OpenVINO); others take JSON alone
(MLServer, KServe's). A server may be replaced by one of the other kind while it is in use.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from sinfer.errors import InferenceError, InferenceUnavailableError
from sinfer.types.check import Checked

BINARY_EXTENSION = "binary_tensor_data"
"""What a server calls it that has binary tensors."""

_FRESH_S = 1.0
"""How long an answer is not doubted: the search for one bad item asks once."""

_KEPT_S = 600.0
"""After so long the server is asked again, whatever it said."""

_PATIENCE_S = 2.0
"""So long a call waits for the answer at most."""

_SILENT_S = 30.0
"""After so long a server is asked again that gave no answer to the question."""


class AsksServer(Protocol):
    """A client that can ask for its server's metadata."""

    @property
    def endpoint(self) -> str:
        """The server."""

    async def server_metadata(self) -> Any:
        """The server's metadata: name, version, extensions."""


def lists_binary(metadata: Any) -> bool:
    """Whether a server's metadata list the extension."""
    extensions = metadata.get("extensions") if isinstance(metadata, Mapping) else None
    return isinstance(extensions, list | tuple) and BINARY_EXTENSION in extensions


async def checked_binary(client: AsksServer) -> list[Checked]:
    """Whether a server has the binary tensors that a task wants to send; nothing where it has."""
    try:
        metadata = await client.server_metadata()
    except InferenceError as error:
        text = f"inference.binary: true, and whether the server can do that is not known ({error})"
        return [Checked("warning", text)]
    if lists_binary(metadata):
        return []
    text = (
        f"inference.binary: true, and {client.endpoint} does not list {BINARY_EXTENSION} among its"
        " extensions; leave it at auto, or set it to false"
    )
    return [Checked("error", text)]


class BinaryExtension:
    """Asks one server, and remembers what it said.

    Args:
        ask: returns its metadata.
    """

    def __init__(self, ask: Callable[[], Awaitable[Any]]) -> None:
        self._ask = ask
        self._asking = asyncio.Lock()
        self._is_there = False
        self._asked_s = self._until_s = float("-inf")

    async def is_there(self) -> bool:
        """Whether the server has binary tensors; False while it does not say."""
        if time.monotonic() >= self._until_s:
            async with self._asking:
                if time.monotonic() >= self._until_s:
                    await self._find_out()
        return self._is_there

    async def is_still_there(self) -> bool:
        """The same after the server refused a request with binary tensors; it may be another."""
        if time.monotonic() >= self._asked_s + _FRESH_S:
            self.doubt()
        return await self.is_there()

    def doubt(self) -> None:
        """The server was not there, and may come back as another one: ask it again."""
        self._until_s = float("-inf")

    async def _find_out(self) -> None:
        kept_s = _KEPT_S
        try:
            async with asyncio.timeout(_PATIENCE_S):
                self._is_there = lists_binary(await self._ask())
        except (InferenceUnavailableError, TimeoutError):
            self._is_there, kept_s = False, _SILENT_S
        except InferenceError:  # it does not know the question
            self._is_there = False
        self._asked_s = time.monotonic()
        self._until_s = self._asked_s + kept_s
