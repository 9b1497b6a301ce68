"""The channel to the jail: values come through as they are, and nothing else does."""

import contextlib
import json
import math
import socket
import struct
import threading

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from grading.sandbox import protocol

SCALARS = st.none() | st.booleans() | st.integers(-2**62, 2**62) | st.text() | st.floats()
KEYS = st.text() | st.integers(-2**62, 2**62) | st.booleans()
VALUES = st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(KEYS, v) | st.tuples(v, v),
                      max_leaves=20)
JSON = st.recursive(SCALARS, lambda v: st.lists(v) | st.dictionaries(st.text(), v) | st.tuples(
    st.sampled_from(["list", "dict", "set", "iter", "tensor", "array", "tuple"]), v).map(list),
    max_leaves=20)


def same(a, b) -> bool:
    if isinstance(a, float) and math.isnan(a):
        return isinstance(b, float) and math.isnan(b)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(map(same, a.items(), b.items())) == [True] * len(a)
    return type(a) is type(b) and a == b


@given(VALUES)
def test_plain_values_come_through(value):
    assert same(protocol.decode(json.loads(json.dumps(protocol.encode(value)))), value)


@given(JSON)
def test_any_json_is_a_value_or_refused(data):
    with contextlib.suppress(protocol.ProtocolError):
        protocol.decode(data)


@pytest.mark.parametrize("dtype", protocol.DTYPES.values(), ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
def test_tensors_come_through(dtype, shape):
    value = torch.randint(0, 2, shape).to(dtype)
    got = protocol.decode(protocol.encode(value))
    assert got.dtype == dtype and got.shape == value.shape and torch.equal(got, value)
    leaf = protocol.decode(protocol.encode(torch.ones(2, requires_grad=True)))
    assert leaf.requires_grad and leaf.is_leaf
    if dtype is not torch.bfloat16:
        array = protocol.decode(protocol.encode(value.numpy()))
        assert array.dtype == value.numpy().dtype and np.array_equal(array, value.numpy())


@pytest.mark.parametrize("data", [
    ["tensor", "float32", [10**12], "", False], ["tensor", "float32", [-1, 0], "", False],
    ["tensor", "object", [1], "AAAAAAAAAAA=", False], ["tensor", "float32", [1], "?", False],
    ["tensor", "float32", "1", "AAAAAA==", False], ["tensor"], ["dict", 1], ["set", ["list"]],
    ["dict", ["list"], 1], 2**63, ["set", *range(3000)],
    ["tensor", "float32", [10**9, 0], "", False], ["__import__", "os"], [], {}, [[[]]],
    ["tensor", "float32", [1] * 9, "AAAAAA==", False]])
def test_what_is_no_value_is_refused(data):
    with pytest.raises(protocol.ProtocolError):
        protocol.decode(data)


def test_depth_and_size_are_limited():
    deep = []
    for _ in range(protocol.DEPTH + 2):
        deep = [deep]
    with pytest.raises(protocol.ProtocolError, match="deep"):
        protocol.encode(deep)
    with pytest.raises(protocol.ProtocolError, match="no plain data"):
        protocol.encode(object())
    ours, theirs = socket.socketpair()
    with pytest.raises(protocol.ProtocolError, match="too much"):
        protocol.send(ours, "x" * (protocol.LIMIT + 1))
    theirs.sendall(struct.pack("!I", protocol.LIMIT + 1))
    with pytest.raises(protocol.ProtocolError, match="too large"):
        protocol.receive(ours, 1)


def test_a_slow_or_silent_or_closed_sender():
    ours, theirs = socket.socketpair()
    with pytest.raises(TimeoutError):
        protocol.receive(ours, 0.05)
    theirs.sendall(b"\x00\x00")
    with pytest.raises(TimeoutError):
        protocol.receive(ours, 0.05)
    ours, theirs = socket.socketpair()
    threading.Timer(0.05, theirs.close).start()
    with pytest.raises(protocol.Closed):
        protocol.receive(ours, 5)
    ours, theirs = socket.socketpair()
    theirs.sendall(struct.pack("!I", 3) + b"{x}")
    with pytest.raises(protocol.ProtocolError, match="not JSON"):
        protocol.receive(ours, 1)
