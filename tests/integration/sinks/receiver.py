"""An HTTP server that keeps what is posted to it, and answers as told."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


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
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # an answer in one piece, or Nagle's algorithm delays its end

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                receiver.posts.append(Post(headers, body))
                told = receiver.answers.popleft() if receiver.answers else receiver.judge(body)
                status, answer = told or (204, b"")
                self.send_response(status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                if status != 204:
                    self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def do_OPTIONS(self) -> None:
                self.send_response(receiver.options_status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Requests are kept, not logged."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 128
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/results"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
