"""The Open Inference Protocol over gRPC, tensors as bytes both ways."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import grpc
import httpx

from sinfer.config.model import ConfigModel
from sinfer.config.trust import authorities
from sinfer.config.units import format_duration
from sinfer.errors import (
    ConfigError,
    InferenceError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
    InferenceUnavailableError,
    InvalidResponseError,
)
from sinfer.http.proxies import Proxy, proxy_for, through
from sinfer.inference.base import InferenceClient
from sinfer.inference.grpc_errors import error_of_status
from sinfer.inference.v2.check import checked_model
from sinfer.inference.v2.config import V2Config
from sinfer.inference.v2.grpc_messages import (
    SERVICE,
    ModelInferRequest,
    ModelInferResponse,
    ModelMetadataRequest,
    ModelMetadataResponse,
    ModelReadyRequest,
    ModelReadyResponse,
)
from sinfer.inference.v2.messages import V2Response, inputs_of
from sinfer.inference.v2.readiness import NotReady, Readiness
from sinfer.inference.v2.tensors import nest, pack_tensor, unpack_tensor
from sinfer.types.check import Checked

_PORTS = {"http": 80, "https": 443}

_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""Where values of a datatype are that come one by one; FP16 and BF16 come as bytes only."""


class V2GrpcClient(InferenceClient):
    """Calls ``ModelInfer`` of a server and returns a ``V2Response``; requests as for ``V2Client``.

    Raises:
        ConfigError: ``ca_file`` cannot be read, or TLS is not to be verified.
    """

    Config: ClassVar[type[ConfigModel]] = V2Config

    def __init__(self, config: V2Config) -> None:
        super().__init__(config)
        url = httpx.URL(config.url)
        self._target = f"{url.host}:{url.port or _PORTS[url.scheme]}"
        self._which = {"name": config.model, "version": config.version}
        self._timeout_s = config.timeout.total_seconds()
        self._timeout_text = format_duration(config.timeout)
        self._secrets = [value.get_secret_value() for value in config.headers.values()]
        self._metadata = [
            (name.lower(), value.get_secret_value()) for name, value in config.headers.items()
        ]
        self._places = asyncio.Semaphore(config.most_at_once)
        self._proxy = _proxy(config, url)
        self._secrets += [] if self._proxy is None else self._proxy.secrets
        options: list[tuple[str, Any]] = [
            ("grpc.max_receive_message_length", config.max_response_bytes),
            ("grpc.max_send_message_length", -1),  # the server says what is too large
            ("grpc.enable_retries", 0),  # attempts are the worker's
            ("grpc.primary_user_agent", "sinfer"),
            ("grpc.enable_http_proxy", 0),  # by its own rules, which are others
        ]
        target = self._target
        if self._proxy is not None:
            target = f"{self._proxy.url.host}:{self._proxy.url.port or _PORTS['http']}"
            options += _tunnel_options(self._proxy, self._target, url)
        if url.scheme == "https":
            self._channel = grpc.aio.secure_channel(target, _trust(config), options)
        else:
            self._channel = grpc.aio.insecure_channel(target, options)
        self._infer = self._method("ModelInfer", ModelInferRequest, ModelInferResponse)
        self._ready = self._method("ModelReady", ModelReadyRequest, ModelReadyResponse)
        self._readiness = Readiness(self._not_ready)
        self._about = self._method("ModelMetadata", ModelMetadataRequest, ModelMetadataResponse)

    @property
    def endpoint(self) -> str:
        return f"grpc://{self._target}".lower()

    def _method(self, name: str, request: Any, response: Any) -> tuple[str, Any]:
        call = self._channel.unary_unary(
            f"/{SERVICE}/{name}",
            request_serializer=request.SerializeToString,
            response_deserializer=response.FromString,
        )
        return f"{name} at {self._target}{through(self._proxy)}", call

    async def infer(self, request: Any, *, idempotency_key: str = "") -> V2Response:
        message = encode_request(request, self.config.model, self.config.version)
        further = [("idempotency-key", idempotency_key)] if idempotency_key else []
        if not self._readiness.has_begun:
            await self._readiness.before()
        try:
            answer = await self._call(self._infer, message, further)
        except (InferenceRejectedError, InferenceServerError, InferenceMisconfiguredError):
            await self._readiness.refused()
            raise
        try:
            return decode_response(answer)
        except ValueError as error:
            raise InvalidResponseError(f"{self._infer[0]}: {error}") from error

    async def metadata(self) -> dict[str, Any]:
        """The model's metadata: name, versions, platform, inputs, outputs."""
        which = ModelMetadataRequest(**self._which)
        answer = await self._call(self._about, which)
        return {
            "name": answer.name,
            "versions": list(answer.versions),
            "platform": answer.platform,
            "inputs": [_described(tensor) for tensor in answer.inputs],
            "outputs": [_described(tensor) for tensor in answer.outputs],
        }

    async def _not_ready(self) -> NotReady | None:
        """What the server says of a model that is not ready. Some do not know the question."""
        which = ModelReadyRequest(**self._which)
        try:
            ready = bool((await self._call(self._ready, which)).ready)
        except InferenceUnavailableError as error:
            return str(error), False
        except InferenceError:
            return None
        return None if ready else (f"{self._ready[0]}: ready is false", True)

    async def ready(self) -> bool:
        """Whether the server says that the model is ready.

        Raises:
            InferenceError: it says something else, or nothing.
        """
        which = ModelReadyRequest(**self._which)
        return bool((await self._call(self._ready, which)).ready)

    async def is_ready(self) -> bool:
        """Whether the server can be reached and says that the model is ready."""
        try:
            return await self.ready()
        except InferenceError:
            return False

    async def check(self) -> list[Checked]:
        return await checked_model(self, through(self._proxy))

    async def _call(
        self, method: tuple[str, Any], message: Any, further: Iterable[tuple[str, str]] = ()
    ) -> Any:
        name, call = method
        metadata = [*self._metadata, *further]
        try:
            async with asyncio.timeout(self._timeout_s), self._places:
                return await call(message, metadata=metadata)
        except TimeoutError:
            raise InferenceUnavailableError(
                f"{name}: no answer within {self._timeout_text}"
            ) from None
        except grpc.aio.AioRpcError as error:
            raise error_of_status(error, name, self._secrets) from error

    async def aclose(self) -> None:
        """Close all connections."""
        await self._channel.close()


def encode_request(request: Any, model: str, version: str) -> Any:
    """A request as ``V2Client`` takes it, as a message.

    Raises:
        InferenceMisconfiguredError: it has not the form of a v2 request.
        InferenceRejectedError: a value does not fit its datatype, or the data their shape.
    """
    message = (
        ModelInferRequest(model_name=model, model_version=version, id=str(request.get("id") or ""))
        if isinstance(request, Mapping)
        else ModelInferRequest()
    )
    for tensor in inputs_of(request):
        try:
            message.raw_input_contents.append(
                pack_tensor(tensor["data"], tensor["datatype"], tensor["shape"])
            )
            added = message.inputs.add(
                name=tensor["name"], datatype=tensor["datatype"], shape=list(tensor["shape"])
            )
        except KeyError:
            raise InferenceMisconfiguredError(
                f"input {tensor['name']!r} of the v2 request has no data; see build_request"
            ) from None
        except (ValueError, TypeError) as error:
            raise InferenceRejectedError(f"input {tensor['name']!r}: {error}") from error
        _set_parameters(added.parameters, tensor.get("parameters"))
    for output in request.get("outputs") or ():
        _set_parameters(
            message.outputs.add(name=output["name"]).parameters, output.get("parameters")
        )
    _set_parameters(message.parameters, request.get("parameters"))
    return message


def decode_response(answer: Any) -> V2Response:
    """An answer, whether its tensors are bytes or come value by value.

    Raises:
        ValueError: it is not consistent.
    """
    response = V2Response(
        outputs={},
        shapes={},
        datatypes={},
        model_name=answer.model_name,
        model_version=answer.model_version,
        id=answer.id,
        raw={
            "model_name": answer.model_name,
            "model_version": answer.model_version,
            "id": answer.id,
            "parameters": _parameters(answer.parameters),
            "outputs": [
                {**_described(output), "parameters": _parameters(output.parameters)}
                for output in answer.outputs
            ],
        },
    )
    packed = answer.raw_output_contents
    if packed and len(packed) != len(answer.outputs):
        raise ValueError(f"{len(packed)} raw tensors for {len(answer.outputs)} outputs")
    for place, output in enumerate(answer.outputs):
        try:
            values = (
                unpack_tensor(packed[place], output.datatype) if packed else _one_by_one(output)
            )
            response.outputs[output.name] = nest(values, list(output.shape))
        except (ValueError, TypeError) as error:
            raise ValueError(f"output {output.name!r}: {error}") from error
        response.shapes[output.name] = list(output.shape)
        response.datatypes[output.name] = output.datatype
    return response


def _one_by_one(output: Any) -> list[Any]:
    field = _CONTENTS.get(output.datatype)
    if field is None:
        raise ValueError(f"datatype {output.datatype!r} needs raw_output_contents")
    return list(getattr(output.contents, field))


def _described(tensor: Any) -> dict[str, Any]:
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}


def _set_parameters(into: Any, given: Mapping[str, Any] | None) -> None:
    for name, value in (given or {}).items():
        kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
        field = kinds.get(type(value))
        if field is None:
            raise InferenceMisconfiguredError(
                f"parameter {name!r} of the v2 request is {type(value).__name__};"
                " gRPC takes booleans, numbers and texts"
            )
        setattr(into[name], field, value)


def _parameters(given: Any) -> dict[str, Any]:
    return {
        name: getattr(value, field)
        for name, value in given.items()
        if (field := value.WhichOneof("parameter_choice")) is not None
    }


def _trust(config: V2Config) -> grpc.ChannelCredentials:
    if not config.verify:
        raise ConfigError("inference.verify: gRPC knows no TLS without it; give a ca_file instead")
    return grpc.ssl_channel_credentials(authorities(config.ca_file, "inference.ca_file"))


def _proxy(config: V2Config, url: httpx.URL) -> Proxy | None:
    """The proxy to ask through, by the rule of all clients; ``grpc_proxy`` goes before the rest.

    Raises:
        ConfigError: gRPC cannot go through it.
    """
    proxy = proxy_for(url, config.proxy, "inference.proxy", first=["grpc_proxy"])
    if proxy is not None and proxy.url.scheme != "http":
        raise ConfigError(
            f"gRPC goes through http:// proxies only, not through {proxy.shown}; name one as"
            " inference.proxy, or none, or set inference.transport: http"
        )
    return proxy


def _tunnel_options(proxy: Proxy, target: str, url: httpx.URL) -> list[tuple[str, Any]]:
    """Have the channel connect to the proxy, and ask that for the server behind it."""
    options: list[tuple[str, Any]] = [
        ("grpc.http_connect_server", target),
        ("grpc.default_authority", target),
    ]
    if url.scheme == "https":
        options.append(("grpc.ssl_target_name_override", url.host))
    if proxy.url.userinfo:
        pair = b64encode(f"{proxy.url.username}:{proxy.url.password}".encode()).decode()
        options.append(("grpc.http_connect_headers", f"Proxy-Authorization:Basic {pair}"))
    return options
