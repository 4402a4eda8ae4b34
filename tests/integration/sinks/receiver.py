"""An HTTP server that keeps what is posted to it, and answers as told."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.routing import Route

from sinfer.embedded.http_server import Json
from tests.support.http_server import ThreadedServer


@dataclass(frozen=True)
class Post:
    """One request: lower-case headers, and the body."""

    headers: dict[str, str]
    body: bytes


class Receiver:
    """Listens on a free loopback port.

    Attributes:
        posts: every request, in order of arrival.
        answers: status and body of the next answers; 204 once there are no more.
        judge: says what to answer to a body once there are no more ``answers``; None for 204.
        headers: what every answer has besides.
        options_status: of the answers to OPTIONS, which are not kept.
    """

    def __init__(self) -> None:
        self.posts: list[Post] = []
        self.answers: deque[tuple[int, bytes]] = deque()
        self.headers: dict[str, str] = {}
        self.options_status = 501
        self.judge: Callable[[bytes], tuple[int, bytes] | None] = lambda body: None
        routes = [
            Route("/{path:path}", self._take, methods=["POST"]),
            Route("/{path:path}", self._tell, methods=["OPTIONS"]),
        ]
        self._server = ThreadedServer(Starlette(routes=routes))

    async def _take(self, request: Request) -> Json:
        body = await request.body()
        self.posts.append(Post(dict(request.headers), body))
        told = self.answers.popleft() if self.answers else self.judge(body)
        status, answer = told or (204, b"")
        return Json(answer, status, self.headers)

    async def _tell(self, _: Request) -> Json:
        return Json(b"", self.options_status)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}/results"

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, trace)
