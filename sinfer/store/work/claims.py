"""The working side of a partition's windows: claim, read, renew, complete, release."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Collection, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from sinfer.aio.batching import Batcher
from sinfer.errors import StoreError
from sinfer.store.boards.unavailable import OutageBoard
from sinfer.store.keys import CONFIG_FIELD, partition_keys
from sinfer.store.lua import KEPT_MS, Argument
from sinfer.store.schedule import Schedule
from sinfer.store.wakes import WAIT_MS
from sinfer.store.work.claim import Claim, Completion, StoredOutput
from sinfer.store.work.contents import (
    Contents,
    Damage,
    pack_damage,
    read_chunk,
    read_contents,
)
from sinfer.types.message import Message
from sinfer.windows.attempts import UNIT
from sinfer.windows.dead_letters import pack_dead_letter
from sinfer.windows.ids import Scope
from sinfer.windows.records import ClosedWindow, unpack_closed

if TYPE_CHECKING:
    from sinfer.store.connection import Store

_log = logging.getLogger(__name__)

_STORED_AT_ONCE = 200
"""Windows of which something is kept in one round trip."""

_COSTLY_S = 180
"""As long as windows are costly, that is noted every minute."""


class PartitionClaims:
    """Hands out the closed windows of one partition, each to one worker at a time.

    Attributes:
        name: of the partition, in one text.
        suspected: how many windows could be claimed alone, by the last claim.
    """

    def __init__(self, store: Store, scope: Scope) -> None:
        self.scope = scope
        self.keys = partition_keys(scope)
        self.name = self.keys.name
        self._store = store
        self.suspected = 0

    async def claim(
        self,
        limit: int,
        *,
        lease_ms: int,
        hinted: int = 0,
        alone: bool = False,
        name: str = "",
        waiter: str = "",
    ) -> tuple[list[Claim], int]:
        """Lease up to ``limit`` closed windows, the longest waiting first.

        A window whose lease ran out before is suspected of ending its worker. Claim those when
        nothing else is under way in the process: then nothing else ends with it.

        Args:
            limit: most windows to take.
            lease_ms: how long they are held unless renewed.
            hinted: windows that the Celery message in hand was sent for.
            alone: claim one suspected window, instead of others.
            name: of this claim, under which ``given`` finds its windows; by default one of its own.
            waiter: who is to be woken once there are more windows, where this claim takes all that
                there are; see ``WakeListener``. Nobody by default.

        Returns:
            The claims, and how many windows could still be claimed now, ``suspected`` not counted.
        """
        keys = self.keys
        asked = keys.asked(name or uuid.uuid4().hex)
        reply = await self._store.run(
            "claim_windows",
            [
                keys.meta,
                keys.closed,
                keys.ready,
                keys.leases,
                keys.tokens,
                keys.attempts,
                asked,
                keys.aside,
                keys.deaths,
            ],
            [limit, lease_ms, hinted, KEPT_MS, int(alone), waiter, WAIT_MS],
        )
        claims = []
        now_ms, left, self.suspected = (int(number) for number in reply[:3])
        for at in range(3, len(reply), 6):
            window_id, token, counted, excused, deaths, value = reply[at : at + 6]
            earlier, attempts = divmod(int(counted), UNIT)
            window = unpack_closed(window_id, value)
            claims.append(
                Claim(window, int(token), attempts, now_ms, earlier + int(excused), int(deaths))
            )
        return claims, left

    async def claim_whole(
        self,
        limit: int,
        *,
        lease_ms: int,
        hinted: int = 0,
        alone: bool = False,
        name: str = "",
        waiter: str = "",
    ) -> tuple[list[tuple[Claim, list[Message]]], int, int]:
        """Lease windows, as ``claim`` does, and read the messages of those that are ``whole``.

        Returns:
            The windows with their messages, how many were claimed, and how many are left.
        """
        claims, left = await self.claim(
            limit, lease_ms=lease_ms, hinted=hinted, alone=alone, name=name, waiter=waiter
        )
        return await self.whole(claims) if claims else [], len(claims), left

    async def waiting(self) -> int:
        """How many windows are closed and not done."""
        return int(await self._store.ask(self._store.redis.hlen(self.keys.closed)))

    async def has(self, window_id: str) -> bool:
        """Whether a window is closed and not done."""
        found = await self._store.ask(self._store.redis.hexists(self.keys.closed, window_id))
        return bool(found)

    async def task_config(self) -> str:
        """The configuration that the partition is ingested under; see ``newest_config``."""
        found = await self._store.ask(self._store.redis.hget(self.keys.meta, CONFIG_FIELD))
        return (found or b"").decode(errors="replace")  # what is garbled is refused as JSON

    async def now_ms(self) -> int:
        """The partition's time, milliseconds since the epoch."""
        return await self._store.now_ms(self.keys.meta)

    async def read(self, claims: Sequence[Claim]) -> list[list[Message]]:
        """The messages of claimed windows that the store has, each in the order of the stream."""
        contents = await self.contents([claim.window for claim in claims])
        return [
            await self._all_of(claim.window) if claim.window.problem else found.messages
            for claim, found in zip(claims, contents, strict=True)
        ]

    async def whole(self, claims: Sequence[Claim]) -> list[tuple[Claim, list[Message]]]:
        """The claimed windows whose messages are all there, with these.

        The others are set aside: they are no longer held, and nobody processes them until someone
        rebuilds them or gives them up.
        """
        whole = []
        contents = await self.contents([claim.window for claim in claims])
        for claim, found in zip(claims, contents, strict=True):
            if claim.window.problem:
                whole.append((claim, await self._all_of(claim.window)))
            elif found.damage is None:
                whole.append((claim, found.messages))
            else:
                await self._set_aside(claim, found.damage)
        return whole

    async def _all_of(self, window: ClosedWindow) -> list[Message]:
        """What there is of a window of which not even the number of its chunks can be read."""
        messages: list[Message] = []
        for part in window.parts:
            name = self.keys.segment(part.segment)
            last = part.chunks - 1  # -1, where that is not known, is the last of all
            for chunk in await self._store.ask(self._store.redis.lrange(name, 0, last)):
                messages += read_chunk(chunk) or ()
        return sorted(messages, key=lambda message: message.stream_seq)

    async def _set_aside(self, claim: Claim, damage: Damage) -> None:
        keys, window_id = self.keys, claim.window.id
        names = [keys.meta, keys.closed, keys.leases, keys.tokens, keys.attempts, keys.aside]
        args: list[Argument] = [window_id, claim.token, pack_damage(damage)]
        if await self._store.run(
            "set_window_aside", names, args, asked=keys.asked(uuid.uuid4().hex)
        ):
            _log.error(
                "%s: window %s is set aside: %s; see sinfer windows rebuild",
                self.scope, window_id, damage.reason,
            )  # fmt: skip

    async def contents(self, windows: Sequence[ClosedWindow]) -> list[Contents]:
        """What the store has of closed windows, held against what it should have."""
        return await read_contents(self._store, self.keys, windows)

    async def read_output(self, claim: Claim) -> StoredOutput:
        """What an earlier attempt stored about a window."""
        stored = await self._store.ask(self._store.redis.hgetall(self.keys.output(claim.window.id)))
        sinks = frozenset(
            name.decode().removeprefix("sink:") for name in stored if name.startswith(b"sink:")
        )
        progress = {
            name.decode().removeprefix("progress:"): value
            for name, value in stored.items()
            if name.startswith(b"progress:")
        }
        return StoredOutput(stored.get(b"output"), sinks, stored.get(b"search", b""), progress)

    async def store_output(
        self,
        claim: Claim,
        *,
        output: bytes | None = None,
        sinks: Sequence[str] = (),
        search: bytes | None = None,
        progress: Mapping[str, bytes] | None = None,
    ) -> bool:
        """Keep the model's output, the names of finished sinks, a search for what kills workers, or
        what was found while the items are asked about, for later attempts.

        Returns:
            Whether the window is still held; nothing is stored otherwise.
        """
        fields: list[Argument] = [] if output is None else ["output", output]
        for name in sinks:
            fields += [f"sink:{name}", 1]
        if search is not None:
            fields += ["search", search]
        for name, value in (progress or {}).items():
            fields += [f"progress:{name}", value]
        return await self._outputs((claim, fields))

    @cached_property
    def _outputs(self) -> Batcher[tuple[Claim, list[Argument]], bool]:
        return Batcher(self._store_outputs, max_size=_STORED_AT_ONCE)

    async def _store_outputs(
        self, kept: Sequence[tuple[Claim, list[Argument]]]
    ) -> list[bool | Exception]:
        """What is kept at the same time of several windows, in one round trip."""
        names = [self.keys.tokens, self.keys.leases]
        args: list[Argument] = []
        for claim, fields in kept:
            names.append(self.keys.output(claim.window.id))
            args += [claim.window.id, claim.token, len(fields), *fields]
        return [
            bool(held) if isinstance(held, int) else StoreError(held.decode(errors="replace"))
            for held in await self._store.run("store_window_outputs", names, args)
        ]

    async def renew(self, claims: Sequence[Claim], *, lease_ms: int) -> list[bool]:
        """Renew leases; False for each window that is not held any more."""
        pairs = [word for claim in claims for word in (claim.window.id, claim.token)]
        keys = [self.keys.meta, self.keys.leases, self.keys.tokens]
        return [
            bool(held)
            for held in await self._store.run("renew_window_leases", keys, [lease_ms, *pairs])
        ]

    async def renew_given(self, name: str, *, lease_ms: int) -> None:
        """Renew the leases of what a claim was given, before its answer has been read.

        Args:
            name: of the claim, not much more than ``KEPT_MS`` ago.
            lease_ms: how long the windows are held from now on.
        """
        given = await self._store.ask(self._store.redis.get(self.keys.asked(name)))
        if given:
            keys = [self.keys.meta, self.keys.leases, self.keys.tokens]
            await self._store.run("renew_window_leases", keys, [lease_ms, *given.split()])
            await self._store.ask(self._store.redis.pexpire(self.keys.asked(name), KEPT_MS))

    async def complete(self, completions: Sequence[Completion]) -> list[bool]:
        """End windows; False for each one that was not held any more and stays as it is."""
        keys = self.keys
        names = [
            keys.meta, keys.closed, keys.leases, keys.tokens, keys.attempts, keys.refs,
            keys.segment_sizes, keys.dead, keys.ledger, keys.members, keys.deaths, keys.unfinished,
        ]  # fmt: skip
        args: list[Argument] = []
        for completion in completions:
            claim = completion.claim
            window = claim.window
            shared = window.record.shared
            segments = [part.segment for part in window.parts]
            names.append(keys.output(window.id))
            for segment in segments:
                names += [keys.segment(segment), keys.given_up(segment)]
            counted_later = ("sunk", "dead", "filtered") if shared else ()
            counts = {k: n for k, n in completion.counts.items() if n and k not in counted_later}
            places = await self._places(completion)
            args += [window.id, claim.token, int(shared)]
            args += [len(segments), *segments]
            args.append(len(counts))
            for name, change in counts.items():
                args += [name, change]
            filtered = completion.filtered if shared else ()
            args.append(len(completion.dead) + len(filtered))
            for letter in completion.dead:
                seq = letter.message.stream_seq
                args += [places.get(seq, 0), seq, pack_dead_letter(letter)]
            for seq in filtered:
                args += [places.get(seq, 0), f"f{seq}", b""]
            keep = 0 if completion.entry is None else completion.ledger
            args += [keep, completion.entry or b""]
        asked = keys.asked(uuid.uuid4().hex)
        return [
            bool(done)
            for done in await self._store.run("complete_windows", names, args, asked=asked)
        ]

    async def _places(self, completion: Completion) -> dict[int, int]:
        """In which of a window's shared segments its messages are, from 1, by stream sequence."""
        is_needed = completion.dead or completion.filtered
        if not (is_needed and completion.claim.window.record.shared):
            return {}
        [found] = await self.contents([completion.claim.window])
        places = {seq: part + 1 for seq, part in found.segments.items()}
        for (segment, _), sequences in found.lost.items():
            parts = [part.segment for part in completion.claim.window.parts]
            places |= dict.fromkeys(sequences, parts.index(segment) + 1)
        return places

    async def release(
        self,
        claim: Claim,
        *,
        wait_ms: int = 0,
        counts: bool = True,
        away: Mapping[str, str] | None = None,
        back: Collection[str] = (),
    ) -> int:
        """Hand a window back, to be claimed again after ``wait_ms``.

        Args:
            claim: the window.
            wait_ms: not before so many milliseconds; then beat has a look at the partition.
            counts: whether the attempt counts.
            away: what it waits for, and what was wrong with that; see ``OutageBoard``.
            back: what answered.

        Returns:
            When it is due, milliseconds since the epoch; 0 when it was not held any more.
        """
        keys = self.keys
        notes = [word for what, error in (away or {}).items() for word in (what, error)]
        due_ms = int(
            await self._store.run(
                "release_window",
                [keys.meta, keys.ready, keys.leases, keys.tokens, keys.attempts, keys.outages],
                [claim.window.id, claim.token, wait_ms, int(counts), len(notes), *notes, *back],
                asked=keys.asked(uuid.uuid4().hex),
            )
        )
        if due_ms and wait_ms:
            await Schedule(self._store).announce(self.scope, wait_ms)
        return due_ms

    async def note_answers(self, back: Collection[str], known: Collection[str]) -> None:
        """Note that what windows waited for is back; see ``OutageBoard.over``."""
        await OutageBoard(self._store, self.scope).over(back, known)

    async def note_unreadable(self, claim: Claim) -> None:
        """Note for ``sinfer status`` that what is stored of a window cannot be read."""
        names = self.keys.unreadable
        await self._store.ask(self._store.redis.hset(names, claim.window.id, claim.window.problem))

    async def note_unusable(self, why: str, shown_ms: int) -> None:
        """Note for ``sinfer status`` why a worker cannot begin the windows; empty: it can.

        Args:
            why: what is wrong with the task.
            shown_ms: how long that is shown.
        """
        key = self.keys.unusable
        if why:
            await self._store.ask(self._store.redis.set(key, why, px=shown_ms))
        else:
            await self._store.ask(self._store.redis.delete(key))

    async def has_ready(self) -> bool:
        """Whether a closed window may be claimed, now or later."""
        return bool(await self._store.ask(self._store.redis.exists(self.keys.ready)))

    async def note_costly(self, why: str) -> None:
        """Note for ``sinfer status`` why windows cost several calls; it is kept for a while."""
        await self._store.ask(self._store.redis.set(self.keys.costly, why, ex=_COSTLY_S))
