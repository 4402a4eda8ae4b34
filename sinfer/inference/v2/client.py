"""The Open Inference Protocol (v2), as spoken by KServe, Triton, MLServer, OpenVINO and others."""

from __future__ import annotations

import builtins
from http.client import NOT_FOUND, SERVICE_UNAVAILABLE
from typing import Any

import httpx

from sinfer.encoding import from_json
from sinfer.errors import (
    InferenceError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
)
from sinfer.extras import extras_named
from sinfer.inference.base import InferenceClient
from sinfer.inference.http import HttpInferenceClient, path_part
from sinfer.inference.http_errors import invalid_response
from sinfer.inference.v2.check import checked_model
from sinfer.inference.v2.config import V2Config
from sinfer.inference.v2.extension import BinaryExtension, checked_binary
from sinfer.inference.v2.messages import (
    HEADER_LENGTH,
    V2Response,
    decode_response,
    encode_binary_request,
    encode_json_request,
)
from sinfer.inference.v2.readiness import NotReady, Readiness
from sinfer.types.check import Checked


class V2Client(HttpInferenceClient):
    """Calls ``/v2/models/{model}[/versions/{version}]/infer`` and returns a ``V2Response``.

    A request is a mapping as the protocol defines it::

        {"inputs": [{"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [...]}],
         "outputs": [{"name": "y"}], "parameters": {}, "id": ""}      # these three may be left out

    ``data`` is a flat or nested list, a NumPy array, or little-endian bytes as the binary extension
    defines them, whichever way they are sent. A value that does not fit its datatype raises
    ``InferenceRejectedError`` before anything is sent.

    Before the first call, and when one is refused, the server is asked at ``…/ready`` whether the
    model is ready; one that is not has an outage and refuses nothing.
    """

    type = "v2"
    Config = V2Config

    @classmethod
    def fitting(cls, config: V2Config) -> builtins.type[InferenceClient]:
        if config.transport == "http":
            return cls
        with extras_named("inference.transport: "):
            from sinfer.inference.v2.grpc import V2GrpcClient
        return V2GrpcClient

    def __init__(self, config: V2Config) -> None:
        super().__init__(config)
        self._extension = BinaryExtension(self.server_metadata)
        self._server = self.http.endpoint("GET", "/v2")
        path = f"/v2/models/{path_part(config.model)}"
        if config.version:
            path += f"/versions/{path_part(config.version)}"
        self._infer = self.http.endpoint("POST", f"{path}/infer")
        self._model = self.http.endpoint("GET", path)
        self._ready = self.http.endpoint("GET", f"{path}/ready")
        self._readiness = Readiness(self._not_ready)

    async def infer(self, request: Any, *, idempotency_key: str = "") -> V2Response:
        if self.config.binary != "auto":
            return await self._ask(request, idempotency_key, binary=self.config.binary)
        binary = await self._extension.is_there()
        try:
            return await self._ask(request, idempotency_key, binary=binary, texts=True)
        except (InferenceRejectedError, InferenceServerError, InferenceMisconfiguredError) as error:
            if not binary or error.status is None or await self._extension.is_still_there():
                raise
        except InferenceUnavailableError:
            self._extension.doubt()
            raise
        # Another body needs another key.
        key = idempotency_key and f"{idempotency_key}/json"
        return await self._ask(request, key, binary=False, texts=True)

    async def _ask(
        self, request: Any, idempotency_key: str, *, binary: bool, texts: bool = False
    ) -> V2Response:
        headers = None
        if binary:
            body, json_length = encode_binary_request(request)
            headers = {
                "Content-Type": "application/octet-stream",
                HEADER_LENGTH: str(json_length),
            }
        else:
            body = encode_json_request(request)
        if not self._readiness.has_begun:
            await self._readiness.before()
        try:
            response = await self.http.request(
                self._infer, body, idempotency_key=idempotency_key, headers=headers
            )
        except (InferenceRejectedError, InferenceServerError, InferenceMisconfiguredError) as error:
            if not isinstance(error, InferenceMisconfiguredError) or error.status == NOT_FOUND:
                await self._readiness.refused()
            raise
        try:
            header = response.headers.get(HEADER_LENGTH)
            return decode_response(response.content, header, texts=texts)
        except (ValueError, RecursionError) as error:
            raise invalid_response(response, self._infer.call, str(error)) from error

    async def _not_ready(self) -> NotReady | None:
        """What the server says of a model that is not ready. Some do not know the question."""
        try:
            response = await self.http.request(self._ready)
        except InferenceMisconfiguredError:
            return None
        except (InferenceUnavailableError, InferenceRejectedError, InferenceServerError) as error:
            return str(error), error.status == SERVICE_UNAVAILABLE
        return (f"{self._ready.call}: ready is false", True) if _denies_it(response) else None

    async def server_metadata(self) -> Any:
        """The server's metadata: name, version, extensions.

        Raises:
            InferenceError: as ``infer``.
        """
        answer, _ = await self.http.request_json(self._server)
        return answer

    async def metadata(self) -> dict[str, Any]:
        """The model's metadata: name, versions, platform, inputs, outputs.

        Raises:
            InferenceError: as ``infer``.
        """
        answer, response = await self.http.request_json(self._model)
        if not isinstance(answer, dict):
            raise invalid_response(response, self._model.call, "is no model metadata")
        return answer

    async def ready(self) -> bool:
        """Whether the server says that the model is ready.

        Raises:
            InferenceError: it says something else, or nothing.
        """
        return not _denies_it(await self.http.request(self._ready))

    async def is_ready(self) -> bool:
        """Whether the server can be reached and says that the model is ready."""
        try:
            return await self.ready()
        except InferenceError:
            return False

    async def check(self) -> list[Checked]:
        found = await checked_model(self, self.http.route.through)
        if self.config.binary is True and all(part.verdict == "ok" for part in found):
            found += await checked_binary(self)
        return found


def _denies_it(response: httpx.Response) -> bool:
    """Whether an answer of status 200 says that the model is not ready."""
    try:
        answer = from_json(response.content)
    except (ValueError, RecursionError):
        return False
    return isinstance(answer, dict) and answer.get("ready") is False
