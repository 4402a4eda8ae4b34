"""The jsonl sink: whole lines, from any number of writers."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from sinfer.errors import SinkUnavailableError
from sinfer.sinks import JsonlSink
from tests.support.window_results import window_results


def jsonl_sink(path: Path, **settings: Any) -> JsonlSink:
    return JsonlSink(JsonlSink.Config(path=str(path), **settings))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("fsync", [False, True])
async def test_a_line_is_the_result_and_says_where_it_comes_from(
    tmp_path: Path, fsync: bool
) -> None:
    path = tmp_path / "made" / "{task}.jsonl"
    await jsonl_sink(path, fsync=fsync).write(window_results([{"y": "ü\n"}], key='a"b'))
    assert lines(tmp_path / "made" / "ex_1.jsonl") == [
        {
            "idempotency_key": "ex_1/in.w1/all/0/0/0",
            "product": "example",
            "task": "ex_1",
            "key": 'a"b',
            "window_id": "ex_1/in.w1/all/0/0",
            "ordinal": 0,
            "revision": 0,
            "result": {"y": "ü\n"},
        }
    ]


async def test_a_line_that_a_crash_cut_off_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_text('{"idempotency_key":"cut o')
    await jsonl_sink(path).write(window_results(1))
    cut, whole = path.read_text().splitlines()
    assert cut == '{"idempotency_key":"cut o'
    assert json.loads(whole)["ordinal"] == 0


async def test_a_window_that_does_not_fit_on_the_disk_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    await jsonl_sink(path).write(window_results(1))
    before = path.read_bytes()
    program = (
        "import asyncio, resource, signal, sys\n"
        "from sinfer.sinks import JsonlSink\n"
        "from sinfer.errors import SinkUnavailableError\n"
        "from tests.support.window_results import window_results\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "sink = JsonlSink(JsonlSink.Config(path=sys.argv[1]))\n"
        "try:\n"
        "    asyncio.run(sink.write(window_results(100)))\n"
        "except SinkUnavailableError as error:\n"
        "    print(error)\n"
    )
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(path), stdout=asyncio.subprocess.PIPE
    )
    told, _ = await writer.communicate()
    assert told.decode() == f"cannot append to {path}: File too large\n"
    assert path.read_bytes() == before


async def test_lines_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    program = (
        "import asyncio, sys\n"
        "from sinfer.sinks import JsonlSink\n"
        "from tests.support.window_results import window_results\n"
        "sink = JsonlSink(JsonlSink.Config(path=sys.argv[1]))\n"
        "for i in range(50):\n"
        "    window = window_results(['x' * 5000] * 5, base_id=f'{sys.argv[2]}/{i}')\n"
        "    asyncio.run(sink.write(window))\n"
    )
    writers = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", program, str(path), str(name))
        for name in range(3)
    ]
    assert [await writer.wait() for writer in writers] == [0, 0, 0]
    found = [line["window_id"] for line in lines(path)]
    assert len(found) == 3 * 50 * 5
    assert found == [window for window in found[::5] for _ in range(5)]


async def test_a_path_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(SinkUnavailableError, match=f"cannot append to {path}"):
            await jsonl_sink(path).write(window_results(1))


@pytest.mark.parametrize("path", ["", "{tsk}.jsonl", "{}.jsonl", "{task"])
def test_a_path_that_cannot_be_filled_in_is_refused(path: str) -> None:
    with pytest.raises(ValueError):
        JsonlSink.Config(path=path)
