"""The paths of the Open Inference Protocol (v2), for a server of one model."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from sinfer.embedded.http_server import Json
from sinfer.extras import extras_named

with extras_named():
    from starlette.requests import Request
    from starlette.routing import Route

Endpoint = Callable[[Request], Awaitable[Json]]


def v2_routes(
    server: Mapping[str, Any], model: Mapping[str, Any], infer: Endpoint, unknown: str
) -> list[Route]:
    """What a server of one model serves.

    Args:
        server: its metadata.
        model: that of its model.
        infer: answers an inference.
        unknown: the error for another model or version, with ``{path}``, ``{name}`` or
            ``{version}`` in it.
    """

    def of_the_model(endpoint: Endpoint) -> Endpoint:
        async def answer(request: Request) -> Json:
            name, version = request.path_params["name"], request.path_params.get("version")
            if name == model["name"] and version in (None, *model["versions"]):
                return await endpoint(request)
            told = unknown.format(path=request.scope["path"], name=name, version=version)
            return Json({"error": told}, 404)

        return answer

    async def tell_server(_: Request) -> Json:
        return Json(server)

    async def tell_model(_: Request) -> Json:
        return Json(model)

    async def be_there(_: Request) -> Json:
        return Json(b"")

    found = [
        Route("/v2", tell_server, methods=["GET"]),
        Route("/v2/health/live", be_there, methods=["GET"]),
        Route("/v2/health/ready", be_there, methods=["GET"]),
    ]
    for path in ("/v2/models/{name}", "/v2/models/{name}/versions/{version}"):
        found += [
            Route(f"{path}/infer", of_the_model(infer), methods=["POST"]),
            Route(f"{path}/ready", of_the_model(be_there), methods=["GET"]),
            Route(path, of_the_model(tell_model), methods=["GET"]),
        ]
    return found
