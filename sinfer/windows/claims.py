"""The working side of a partition's windows: claim, read, renew, complete, release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from sinfer.messages import Message, unpack_chunk
from sinfer.windows.dead_letters import DeadLetter, pack_dead_letter
from sinfer.windows.ids import Scope
from sinfer.windows.keys import PartitionKeys
from sinfer.windows.records import ClosedWindow, unpack_record
from sinfer.windows.store import Argument, Store
from sinfer.windows.window import CloseReason


@dataclass(frozen=True, slots=True)
class Claim:
    """A window that this worker holds.

    Attributes:
        window: the window.
        token: fencing token of the claim; every later step is refused under an older one.
        attempt: how often the window was claimed, from 1.
    """

    window: ClosedWindow
    token: int
    attempt: int


@dataclass(frozen=True, slots=True)
class Completion:
    """How a claimed window ended.

    Attributes:
        claim: the window.
        counts: what happened to its messages, added to the account.
        dead: those that were given up.
    """

    claim: Claim
    counts: dict[str, int] = field(default_factory=dict)
    dead: Sequence[DeadLetter] = ()


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """What an earlier attempt left: the model's output, and the sinks that have it.

    Attributes:
        output: as it was stored; None when there is none.
        sinks: names of the sinks that need not be written again.
    """

    output: bytes | None
    sinks: frozenset[str]


class PartitionClaims:
    """Hands out the closed windows of one partition, each to one worker at a time."""

    def __init__(self, store: Store, scope: Scope) -> None:
        self.scope = scope
        self.keys = PartitionKeys(scope)
        self._store = store

    async def claim(self, limit: int, *, lease_ms: int, hinted: int = 0) -> tuple[list[Claim], int]:
        """Lease up to ``limit`` closed windows, the longest waiting first.

        Args:
            limit: most windows to take.
            lease_ms: how long they are held unless renewed.
            hinted: windows that the Celery message in hand was sent for.

        Returns:
            The claims, and how many windows could still be claimed now.
        """
        keys = self.keys
        reply = await self._store.run(
            "claim",
            [keys.meta, keys.closed, keys.ready, keys.leases, keys.tokens, keys.attempts],
            [limit, lease_ms, hinted],
        )
        claims = []
        for at in range(2, len(reply), 4):
            window_id, token, attempt, value = reply[at : at + 4]
            reason, closed_ms, blob = value.split(b" ", 2)
            window = ClosedWindow(
                window_id.decode(),
                unpack_record(blob),
                cast("CloseReason", reason.decode()),
                int(closed_ms),
            )
            claims.append(Claim(window, int(token), int(attempt)))
        return claims, int(reply[1])

    async def read(self, claims: Sequence[Claim]) -> list[list[Message]]:
        """The messages of claimed windows, each in the order of the stream's delivery."""
        pipeline = self._store.redis.pipeline(transaction=False)
        for claim in claims:
            for part in claim.window.parts:
                last = part.chunks - 1 if claim.window.shares_segments else -1
                pipeline.lrange(self.keys.segment(part.segment), 0, last)
        lists = iter(await self._store.ask(pipeline.execute()))
        contents = []
        for claim in claims:
            chunks = [chunk for _ in claim.window.parts for chunk in next(lists)]
            contents.append([message for chunk in chunks for message in unpack_chunk(chunk)])
        return contents

    async def read_output(self, claim: Claim) -> StoredOutput:
        """What an earlier attempt stored about a window."""
        stored = await self._store.ask(self._store.redis.hgetall(self.keys.output(claim.window.id)))
        sinks = frozenset(
            name.decode().removeprefix("sink:") for name in stored if name.startswith(b"sink:")
        )
        return StoredOutput(stored.get(b"output"), sinks)

    async def store_output(
        self, claim: Claim, *, output: bytes | None = None, sinks: Sequence[str] = ()
    ) -> bool:
        """Keep the model's output, or the names of finished sinks, for later attempts.

        Returns:
            Whether the window is still held; nothing is stored otherwise.
        """
        fields: list[Argument] = [] if output is None else ["output", output]
        for name in sinks:
            fields += [f"sink:{name}", 1]
        keys = self.keys
        return bool(
            await self._store.run(
                "store_output",
                [keys.tokens, keys.leases, keys.output(claim.window.id)],
                [claim.window.id, claim.token, *fields],
            )
        )

    async def renew(self, claims: Sequence[Claim], *, lease_ms: int) -> list[bool]:
        """Renew leases; False for each window that is not held any more."""
        pairs = [word for claim in claims for word in (claim.window.id, claim.token)]
        keys = [self.keys.leases, self.keys.tokens]
        return [bool(held) for held in await self._store.run("renew", keys, [lease_ms, *pairs])]

    async def complete(self, completions: Sequence[Completion]) -> list[bool]:
        """End windows; False for each one that was not held any more and stays as it is."""
        keys = self.keys
        names = [
            keys.meta, keys.closed, keys.leases, keys.tokens, keys.attempts, keys.refs, keys.dead,
        ]  # fmt: skip
        args: list[Argument] = []
        for completion in completions:
            claim = completion.claim
            window = claim.window
            segments = [part.segment for part in window.parts]
            names += [keys.output(window.id), *(keys.segment(name) for name in segments)]
            counts = [word for name, n in completion.counts.items() if n for word in (name, n)]
            args += [
                window.id, claim.token, int(window.shares_segments),
                len(segments), *segments,
                len(counts) // 2, *counts,
                len(completion.dead), *(pack_dead_letter(letter) for letter in completion.dead),
            ]  # fmt: skip
        return [bool(done) for done in await self._store.run("complete", names, args)]

    async def release(self, claim: Claim, *, wait_ms: int = 0, counts: bool = True) -> int:
        """Hand a window back, to be claimed again after ``wait_ms``.

        Args:
            claim: the window.
            wait_ms: not before so many milliseconds.
            counts: whether the attempt counts.

        Returns:
            When it is due, milliseconds since the epoch; 0 when it was not held any more.
        """
        keys = self.keys
        return int(
            await self._store.run(
                "release",
                [keys.ready, keys.leases, keys.tokens, keys.attempts],
                [claim.window.id, claim.token, wait_ms, int(counts)],
            )
        )
