"""Whether a v2 model could be asked: the server is there, has the model, and it is ready."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from sinfer.errors import (
    InferenceError,
    InferenceMisconfiguredError,
    InferenceRejectedError,
    InferenceServerError,
)
from sinfer.inference.check import checked_error, status_of
from sinfer.types.check import Checked

if TYPE_CHECKING:
    from sinfer.inference.v2.config import DescribedModel

_UNKNOWN = {HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED}


async def checked_model(client: DescribedModel, through: str = "") -> list[Checked]:
    """Ask a server about a model, and nothing of the model.

    Servers answer in many ways for a model that they do not have; the one that counts is that to
    the question for its metadata.

    Args:
        client: of the model.
        through: behind the name of the server, for people.
    """
    model = _model_of(client.config)
    place = f"{client.endpoint}{through}"
    not_ready = Checked("unreachable", f"{place}: {model} is not ready; wait, or see its log")
    try:
        is_ready = await client.ready()
    except (InferenceMisconfiguredError, InferenceRejectedError) as error:
        if status_of(error) not in _UNKNOWN and isinstance(error, InferenceMisconfiguredError):
            return [checked_error(error, place)]
        is_ready = isinstance(error, InferenceMisconfiguredError)
    except InferenceServerError:
        is_ready = False
    except InferenceError as error:
        return [checked_error(error, place)]
    try:
        metadata = await client.metadata()
    except InferenceError as error:
        if not is_ready and isinstance(error, InferenceRejectedError):
            return [not_ready]
        missing = f"it has no {model}; correct inference.model or inference.version, or load it"
        return [checked_error(error, place, missing)]
    if not is_ready:
        return [not_ready]
    return [Checked("ok", f"{place}: model {metadata.get('name')!r} is ready")]


def _model_of(config: Any) -> str:
    return f"model {config.model!r}" + (f" version {config.version!r}" if config.version else "")
