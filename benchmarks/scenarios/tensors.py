"""What tensors cost a worker as JSON and as bytes: ``python -m benchmarks.scenarios.tensors``."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import Any

import msgspec

from sinfer.encoding import to_json
from sinfer.inference.v2.messages import decode_response, encode_binary_request, encode_json_request
from sinfer.inference.v2.tensors import pack_tensor

SIZES = ((1, 4), (1, 64), (10, 16), (100, 16), (100, 64), (1000, 64))
"""Rows and columns of a window's request."""

_ROUNDS = 5


class TensorCosts(msgspec.Struct):
    """CPU time of one window in a worker, microseconds: its request written, and its answer read,
    which has one number for each row.

    Attributes:
        rows, columns: of the request, FP32.
        json_us, binary_us: as JSON, and as bytes, from one flat list.
        json_bytes, binary_bytes: the size of the request.
    """

    rows: int
    columns: int
    json_us: float
    binary_us: float
    json_bytes: int
    binary_bytes: int


def measure_tensors(rows: int, columns: int) -> TensorCosts:
    """Measure one size; the best of some rounds counts."""
    draw = random.Random(1)
    data = [draw.random() for _ in range(rows * columns)]
    tensor = {"name": "x", "shape": [rows, columns], "datatype": "FP32", "data": data}
    request = {"inputs": [tensor]}
    scores = [draw.random() for _ in range(rows)]
    output: dict[str, Any] = {"name": "y", "shape": [rows], "datatype": "FP32"}
    answer = to_json({"model_name": "m", "outputs": [{**output, "data": scores}]})
    packed = pack_tensor(scores, "FP32", [rows])
    output["parameters"] = {"binary_data_size": len(packed)}
    header = to_json({"model_name": "m", "outputs": [output]})
    length, body = str(len(header)), header + packed
    times = max(5, 200_000 // (rows * columns + 200))
    return TensorCosts(
        rows,
        columns,
        _cpu_us(lambda: encode_json_request(request), times)
        + _cpu_us(lambda: decode_response(answer, None), times),
        _cpu_us(lambda: encode_binary_request(request), times)
        + _cpu_us(lambda: decode_response(body, length, texts=True), times),
        len(encode_json_request(request)),
        len(encode_binary_request(request)[0]),
    )


def _cpu_us(call: Callable[[], object], times: int) -> float:
    best = float("inf")
    for _ in range(_ROUNDS):
        began_s = time.process_time()
        for _ in range(times):
            call()
        best = min(best, (time.process_time() - began_s) / times)
    return 1e6 * best


def main() -> None:
    """Print all sizes."""
    print("rows x columns   JSON, µs   binary, µs   JSON, bytes   binary, bytes")
    for rows, columns in SIZES:
        found = measure_tensors(rows, columns)
        print(
            f"{rows:4} x {columns:<7} {found.json_us:10.1f} {found.binary_us:12.1f}"
            f" {found.json_bytes:13,} {found.binary_bytes:15,}"
        )


if __name__ == "__main__":
    main()
