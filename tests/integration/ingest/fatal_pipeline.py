"""A pipeline whose messages end their process in one way or another; imported by that process."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from typing import Any

from sinfer import InferPipeline, InferTaskConfig, Message, Result, Window


class Fatal(InferPipeline[InferTaskConfig, str]):
    def __init__(self, task: InferTaskConfig) -> None:
        super().__init__(task)
        self._is_broken = False
        if task.id == "cannot-be-made":
            ctypes.string_at(0)

    def preprocess(self, message: Message) -> str | None:
        match message.data.decode():
            case "segv":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "leave":
                os._exit(3)
            case "oom":
                os.kill(os.getpid(), signal.SIGKILL)
            case "exit":
                sys.exit(5)
            case "hang":
                time.sleep(1e9)
            case "grab":
                with threading.Lock() as lock:
                    lock  # noqa: B018
                ctypes.PyDLL(None).sleep(10**6)  # with the interpreter in its hands
            case "break":
                self._is_broken = True
            case "skip":
                return None
        if self._is_broken and message.data == b"victim":
            os.abort()
        return message.data.decode()

    def key(self, item: str) -> str:
        return item

    def close_when(self, window: Any, item: str) -> bool:
        if item == "fatal-trigger":
            ctypes.string_at(0)
        return item == "last"

    def build_request(self, window: Window[str]) -> Any:
        return list(window)

    def build_results(self, window: Window[str], response: Any) -> list[Result]:
        return []
