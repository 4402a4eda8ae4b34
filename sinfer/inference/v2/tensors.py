"""Tensors of the Open Inference Protocol: lists to little-endian bytes and back, all datatypes."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

_FORMATS = {
    "BOOL": "?",
    "INT8": "b",
    "INT16": "h",
    "INT32": "i",
    "INT64": "q",
    "UINT8": "B",
    "UINT16": "H",
    "UINT32": "I",
    "UINT64": "Q",
    "FP16": "e",
    "FP32": "f",
    "FP64": "d",
}
_NUMPY_TYPES = {
    "BOOL": "|b1",
    "INT8": "|i1",
    "INT16": "<i2",
    "INT32": "<i4",
    "INT64": "<i8",
    "UINT8": "|u1",
    "UINT16": "<u2",
    "UINT32": "<u4",
    "UINT64": "<u8",
    "FP16": "<f2",
    "FP32": "<f4",
    "FP64": "<f8",
}
DATATYPES = frozenset({*_FORMATS, "BF16", "BYTES"})
FLOATS = frozenset({"FP16", "BF16", "FP32", "FP64"})
"""Datatypes whose values may be no number."""

NUMBERS = DATATYPES - {"BYTES"}
"""Datatypes whose values all have the same size; BOOL is one."""

_NAMED = {
    "nan": math.nan,
    "infinity": math.inf,
    "+infinity": math.inf,
    "-infinity": -math.inf,
    "inf": math.inf,
    "+inf": math.inf,
    "-inf": -math.inf,
}
"""What JSON has no number for, as servers write it in a string."""


def pack_tensor(data: Any, datatype: str, shape: Sequence[int]) -> bytes:
    """The bytes of a tensor, row by row.

    Args:
        data: flat or nested lists; a NumPy array or another object with ``tolist`` or ``tobytes``;
            or bytes, which are taken as they are.

    Raises:
        ValueError: the data do not fit the datatype or the shape.
    """
    if isinstance(data, bytes | bytearray | memoryview):
        packed = bytes(data)
    elif _has_dtype(data, datatype) or not hasattr(data, "tolist"):
        packed = data.tobytes() if hasattr(data, "tobytes") else _pack(flatten(data), datatype)
    else:
        packed = _pack(flatten(data.tolist()), datatype)
    if datatype != "BYTES" and len(packed) != (size := math.prod(shape) * item_size(datatype)):
        if isinstance(data, bytes | bytearray | memoryview):
            raise ValueError(
                f"{datatype} of shape {list(shape)} needs {size} bytes, the data are {len(packed)}"
            )
        raise ValueError(wrong_size(shape, len(packed) // item_size(datatype)))
    return packed


def unpack_tensor(packed: bytes | memoryview, datatype: str) -> list[Any]:
    """The values of a tensor, row by row: numbers, booleans, or ``bytes`` for ``BYTES``.

    Raises:
        ValueError: the bytes do not fit the datatype.
    """
    if datatype == "BYTES":
        return list(_strings(packed))
    size = item_size(datatype)
    count, rest = divmod(len(packed), size)
    if rest:
        raise ValueError(f"{len(packed)} bytes are no whole number of {datatype}")
    if datatype == "BF16":
        wide = bytearray(4 * count)
        wide[2::4] = packed[0::2]
        wide[3::4] = packed[1::2]
        return list(struct.unpack(f"<{count}f", wide))
    return list(struct.unpack(f"<{count}{_FORMATS[datatype]}", packed))


def item_size(datatype: str) -> int:
    """Bytes of one value.

    Raises:
        ValueError: the datatype is unknown, or its values differ in size.
    """
    if datatype == "BF16":
        return 2
    try:
        return struct.calcsize("<" + _FORMATS[datatype])
    except KeyError:
        raise ValueError(f"datatype {datatype!r} has no fixed size") from None


def flatten(data: Any) -> Sequence[Any]:
    """Nested lists as one flat list, row by row; a flat list is returned as it is.

    Raises:
        TypeError: the nesting is not even.
    """
    while len(data) and isinstance(data[0], list | tuple):
        data = list(chain.from_iterable(data))
    checked: Sequence[Any] = data
    return checked


def size_of(data: Any) -> int:
    """How many values there are in flat or nested lists, or in an array.

    Raises:
        TypeError: the nesting is not even.
    """
    shape = getattr(data, "shape", None)
    if shape is not None:
        return math.prod(shape)
    while len(data) and isinstance(data[0], list | tuple):
        if not (data[0] and isinstance(data[0][0], list | tuple)):
            return sum(map(len, data))
        data = list(chain.from_iterable(data))
    return len(data)


def wrong_size(shape: Sequence[int], count: int) -> str:
    """What is wrong with data of so many values."""
    return f"shape {list(shape)} needs {math.prod(shape)} values, the data are {count}"


def numbers(values: list[Any], datatype: str) -> list[Any]:
    """Values as they came in JSON: of those that JSON has no number for, floats are made, and whole
    numbers of strings of digits, as protobuf writes large ones. A whole number that is missing
    stays None, for the product to judge.

    Raises:
        ValueError: there is something else than a number.
    """
    try:
        sum(values)
    except TypeError:
        return [
            value if isinstance(value, int | float) else _number(value, place, datatype)
            for place, value in enumerate(values)
        ]
    return values


def _number(value: Any, place: int, datatype: str) -> float | None:
    is_float = datatype in FLOATS
    if value is None:
        return math.nan if is_float else None
    if isinstance(value, str):
        found = _NAMED.get(value.strip().lower()) if is_float else _whole(value)
        if found is not None:
            return found
    raise ValueError(no_number(value, place, datatype))


def _whole(text: str) -> int | None:
    digits = text.removeprefix("-")
    return int(text) if digits.isascii() and digits.isdigit() and len(digits) < 21 else None


def no_number(value: Any, place: int, datatype: str) -> str:
    """What is wrong with a value that does not fit its datatype, and the remedy."""
    if value is None:
        hint = "; write nan for a number that is missing" if datatype in FLOATS else ""
        return f"value {place} is null where {datatype} is due{hint}"
    return f"value {place} is no {datatype}: {repr(value)[:60]}"


def json_values(data: list[Any], datatype: str, shape: Sequence[int]) -> list[Any]:
    """Values as they came in JSON, flat or nested in whatever way, nested as the shape says.

    Raises:
        ValueError, TypeError: they are none of the datatype, or another number.
    """
    flat = list(flatten(data))
    return nest(numbers(flat, datatype) if datatype in NUMBERS else flat, shape)


def nest(flat: list[Any], shape: Sequence[int]) -> list[Any]:
    """A flat list as lists within lists, one level for each dimension but the last.

    Raises:
        ValueError: the shape holds another number of values.
    """
    if math.prod(shape) != len(flat):
        raise ValueError(f"shape {list(shape)} does not hold {len(flat)} values")
    for depth in range(len(shape) - 1, 0, -1):
        size = shape[depth]
        flat = [
            flat[place * size : (place + 1) * size] for place in range(math.prod(shape[:depth]))
        ]
    return flat


def _has_dtype(data: Any, datatype: str) -> bool:
    found = getattr(getattr(data, "dtype", None), "str", None)
    return found is not None and found == _NUMPY_TYPES.get(datatype)


def _pack(values: Sequence[Any], datatype: str) -> bytes:
    try:
        if datatype == "BYTES":
            return b"".join(_length_prefixed(values))
        if datatype == "BF16":
            return _pack_bf16(values)
        return struct.pack(f"<{len(values)}{_FORMATS[datatype]}", *values)
    except KeyError:
        raise ValueError(f"datatype {datatype!r} is unknown") from None
    except (struct.error, TypeError, OverflowError) as error:
        raise ValueError(_told(values, datatype) or f"not {datatype}: {error}") from error


def _told(values: Sequence[Any], datatype: str) -> str:
    """Which value cannot be packed; empty where each of them can."""
    pack = struct.Struct("<" + _FORMATS.get(datatype, "f")).pack
    for place, value in enumerate(values):
        try:
            list(_length_prefixed([value])) if datatype == "BYTES" else pack(value)
        except (struct.error, TypeError, OverflowError):
            return no_number(value, place, datatype)
    return ""


def _pack_bf16(values: Sequence[float]) -> bytes:
    """The upper halves of FP32, rounded to the nearest, ties to even; NaN stays NaN."""
    words = struct.unpack(f"<{len(values)}I", struct.pack(f"<{len(values)}f", *values))
    halves = [
        (word >> 16) | 0x40
        if word & 0x7FFFFFFF > 0x7F800000
        else (word + 0x7FFF + (word >> 16 & 1)) >> 16
        for word in words
    ]
    return struct.pack(f"<{len(halves)}H", *halves)


def _length_prefixed(values: Sequence[Any]) -> Iterable[bytes]:
    for value in values:
        element = value.encode() if isinstance(value, str) else bytes(memoryview(value))
        yield struct.pack("<I", len(element))
        yield element


def _strings(packed: bytes | memoryview) -> Iterable[bytes]:
    place = 0
    while place < len(packed):
        if place + 4 > len(packed):
            raise ValueError("BYTES end within a length")
        (size,) = struct.unpack_from("<I", packed, place)
        place += 4
        if place + size > len(packed):
            raise ValueError("BYTES end within an element")
        yield bytes(packed[place : place + size])
        place += size
