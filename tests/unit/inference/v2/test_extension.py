"""Whether a server has binary tensors is asked seldom, and holds up no call for long."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sinfer.errors import InferenceMisconfiguredError, InferenceUnavailableError
from sinfer.inference.v2 import extension as v2_extension
from sinfer.inference.v2.extension import BinaryExtension

THERE = {"name": "triton", "extensions": ["classification", "binary_tensor_data"]}


class Server:
    """Answers the question, or raises the error that it was given."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked = 0

    async def ask(self) -> Any:
        self.asked += 1
        await asyncio.sleep(0)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("answer", "is_there"),
    [
        (THERE, True),
        ({"name": "mlserver", "extensions": []}, False),
        ({"name": "s"}, False),
        ({"extensions": "binary_tensor_data"}, False),
        ([], False),
        (InferenceMisconfiguredError("404"), False),
        (InferenceUnavailableError("502"), False),
    ],
)
async def test_many_calls_at_once_ask_once(answer: Any, is_there: bool) -> None:
    server = Server(answer)
    extension = BinaryExtension(server.ask)
    found = await asyncio.gather(*(extension.is_there() for _ in range(10)))
    assert set(found) == {is_there}
    assert await extension.is_there() is is_there
    assert server.asked == 1


async def test_a_server_that_hangs_at_the_question_holds_up_one_call_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    async def hang() -> Any:
        asked.append(1)
        await asyncio.Event().wait()

    monkeypatch.setattr(v2_extension, "_PATIENCE_S", 0.01)
    extension = BinaryExtension(hang)
    assert [await extension.is_there() for _ in range(5)] == [False] * 5
    assert len(asked) == 1


async def test_what_was_found_is_doubted_once_a_second_at_most() -> None:
    server = Server(THERE)
    extension = BinaryExtension(server.ask)
    assert [await extension.is_still_there() for _ in range(5)] == [True] * 5
    assert server.asked == 1
    extension._asked_s -= 2  # a while later
    server.answer = {}
    assert not await extension.is_still_there()
    assert server.asked == 2
