"""Tensors come back as they went, in all datatypes, and bytes are those of the protocol."""

from __future__ import annotations

import math
from array import array
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sinfer.inference.v2.tensors import DATATYPES, flatten, nest, pack_tensor, unpack_tensor

NUMPY = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
}


def values(datatype: str) -> st.SearchStrategy[Any]:
    if datatype == "BOOL":
        return st.booleans()
    if datatype == "BYTES":
        return st.binary(max_size=20)
    if datatype.startswith("FP"):
        return st.floats(width=int(datatype[2:]), allow_nan=False)  # type: ignore[arg-type]
    if datatype == "BF16":
        return st.sampled_from([0.0, -0.0, 1.0, -2.5, 3.140625, math.inf, -math.inf, 2.0**-133])
    bits = int(datatype.removeprefix("U").removeprefix("INT"))
    if datatype.startswith("U"):
        return st.integers(0, 2**bits - 1)
    return st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@given(st.data(), st.sampled_from(sorted(DATATYPES)))
def test_what_is_packed_is_unpacked_again(data: st.DataObject, datatype: str) -> None:
    items = data.draw(st.lists(values(datatype), max_size=20))
    packed = pack_tensor(items, datatype, [len(items)])
    assert unpack_tensor(packed, datatype) == items
    assert unpack_tensor(memoryview(packed), datatype) == items


@pytest.mark.parametrize("datatype", sorted(NUMPY))
def test_bytes_are_those_of_numpy(datatype: str) -> None:
    items: Any = np.array([[0, 1, 1], [1, 0, 1]], dtype=NUMPY[datatype])
    expected = items.astype(items.dtype.newbyteorder("<")).tobytes()
    assert pack_tensor(items, datatype, [2, 3]) == expected
    assert pack_tensor(items.tolist(), datatype, [2, 3]) == expected
    assert unpack_tensor(expected, datatype) == items.ravel().tolist()


def test_a_numpy_array_of_another_dtype_or_layout_is_converted() -> None:
    single = np.array([[1, 2], [3, 4]], dtype="<f4")
    assert pack_tensor(single.astype("<f8"), "FP32", [2, 2]) == single.tobytes()
    assert pack_tensor(single.astype(">f4"), "FP32", [2, 2]) == single.tobytes()
    assert pack_tensor(single.T, "FP32", [2, 2]) == single.T.tobytes()
    assert pack_tensor(array("d", [1, 2, 3, 4]), "FP32", [4]) == single.tobytes()


def test_bf16_is_rounded_to_the_nearest_even_and_keeps_nan() -> None:
    up = 1 + 3 * 2**-8  # between 1 + 2**-7 and 1 + 2**-6, as near to both: the even one
    assert unpack_tensor(pack_tensor([up], "BF16", [1]), "BF16") == [1 + 2**-6]
    assert math.isnan(unpack_tensor(pack_tensor([math.nan], "BF16", [1]), "BF16")[0])


def test_strings_are_length_prefixed_utf8() -> None:
    assert pack_tensor(["é", b"\x00"], "BYTES", [2]) == b"\x02\0\0\0\xc3\xa9\x01\0\0\0\0"


@pytest.mark.parametrize(
    ("items", "datatype", "shape"),
    [
        ([1.0, None], "FP32", [2]),
        (["1"], "FP32", [1]),
        ([1e300], "FP32", [1]),
        ([300], "UINT8", [1]),
        ([1.5], "INT64", [1]),
        ([[1.0], 2.0], "FP32", [2]),
        ([1.0, 2.0], "FP32", [3]),
        (b"\0" * 7, "FP32", [2]),
        ([1.0], "FP31", [1]),
        ([1], "BYTES", [1]),
    ],
)
def test_what_does_not_fit_is_refused(items: Any, datatype: str, shape: list[int]) -> None:
    with pytest.raises((ValueError, TypeError)):
        pack_tensor(items, datatype, shape)


@pytest.mark.parametrize(
    ("packed", "datatype"),
    [
        (b"\0" * 5, "FP32"),
        (b"\0" * 3, "BF16"),
        (b"\x01\0\0", "BYTES"),
        (b"\x02\0\0\0a", "BYTES"),
        (b"", "FP8"),
    ],
)
def test_bytes_that_do_not_fit_are_refused(packed: bytes, datatype: str) -> None:
    with pytest.raises(ValueError, match=r"bytes|BYTES|datatype"):
        unpack_tensor(packed, datatype)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_nesting_agrees_with_numpy(shape: list[int]) -> None:
    flat = list(range(math.prod(shape)))
    nested = nest(flat, shape)
    assert nested == np.array(flat, dtype=int).reshape(shape).tolist()
    if flat:
        assert list(flatten(nested)) == flat


def test_a_scalar_stays_a_list_of_one() -> None:
    assert nest([7], []) == [7]


def test_a_shape_that_does_not_hold_the_values_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \[2, 2\] does not hold 3 values"):
        nest([1, 2, 3], [2, 2])
