"""Whether what a product asks of a v2 model fits what the model's metadata say."""

from __future__ import annotations

from typing import Any


def names_inputs(metadata: dict[str, Any]) -> bool:
    """Whether metadata say anything to compare with: some servers name no inputs."""
    return bool(metadata.get("inputs"))


def differences(request: Any, metadata: dict[str, Any]) -> list[str]:
    """What a v2 request asks for that the model's metadata do not offer.

    Sizes of -1 in the metadata fit any size.
    """
    if not isinstance(request, dict) or not isinstance(request.get("inputs"), list):
        return ["build_request returned no mapping with a list of inputs"]
    offered = {tensor["name"]: tensor for tensor in metadata.get("inputs") or []}
    problems = []
    sent = {tensor.get("name"): tensor for tensor in request["inputs"]}
    for name, tensor in sent.items():
        if name not in offered:
            known = ", ".join(sorted(offered))
            problems.append(f"input {name!r} is not one of the model's ({known})")
            continue
        expected = offered[name]
        if tensor.get("datatype") != expected.get("datatype"):
            problems.append(
                f"input {name!r} is {tensor.get('datatype')}, the model takes"
                f" {expected.get('datatype')}"
            )
        shape, wanted = list(tensor.get("shape") or []), list(expected.get("shape") or [])
        fits = len(shape) == len(wanted) and all(
            want in (-1, have) for have, want in zip(shape, wanted, strict=True)
        )
        if not fits:
            problems.append(f"input {name!r} has shape {shape}, the model takes {wanted}")
    problems += [f"the model's input {name!r} is not sent" for name in offered if name not in sent]
    return problems
