"""The data-only channel between the grader and a submission: JSON lines of plain values.

Nothing is ever unpickled. A value is None, a bool, a number, a string, or tagged:

    ["list", ...] ["tuple", ...] ["set", ...] ["iter", ...]   items in order
    ["dict", key, value, ...]                                  keys and values in turn
    ["tensor" | "array", dtype, shape, base64, needs_grad]     bytes in row-major order

Every decoder limits size and depth, since a hostile process may write what it likes.
"""

import base64
import collections
import collections.abc
import contextlib
import json
import math
import socket
import struct
import time
from decimal import Decimal
from fractions import Fraction

import numpy as np
import torch

LIMIT = 4 * 2**20  # bytes a message
DEPTH, KEYS, WHOLE = 16, 1000, 2**63  # items of a dict or set; beyond WHOLE hashes collide
ITEMS = 100_000  # of an answer: numbers, rows without numbers, texts, all levels together
DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
    torch.int16, torch.int8, torch.uint8, torch.bool)}
LISTS = (list, collections.abc.MappingView, collections.deque, range)
SEQUENCES = {"list": list, "tuple": tuple, "set": set, "iter": iter}


class ProtocolError(Exception):
    """The other side sent, or was to be sent, something that is no plain value."""


class Closed(ProtocolError):
    """The other side is gone."""


def encode(value, tensors: list | None = None, depth: int = 0):
    """A value as JSON-able data. Tensors that are part of a graph are appended to tensors.

    Raises ProtocolError for what has no plain form.
    """
    if depth > DEPTH:
        raise ProtocolError("nested too deeply")
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, Fraction | Decimal):
        return float(value)
    if isinstance(value, torch.Tensor):
        if value.requires_grad and tensors is not None:
            tensors.append(value)
        flat = value.detach().cpu().contiguous().reshape(-1)
        return _bytes("tensor", str(value.dtype).removeprefix("torch."), value.shape,
                      flat.view(torch.uint8).numpy().tobytes(), value.requires_grad)
    if isinstance(value, np.ndarray | np.generic):
        return _bytes("array", str(value.dtype), value.shape, value.tobytes(), False)
    if isinstance(value, dict):
        items = [item for pair in value.items() for item in pair]
        return ["dict", *(encode(item, tensors, depth + 1) for item in items)]
    for tag, kind in (("list", LISTS), ("tuple", tuple), ("set", set | frozenset)):
        if isinstance(value, kind):
            return [tag, *(encode(item, tensors, depth + 1) for item in value)]
    if isinstance(value, collections.abc.Iterator):
        return ["iter", *(encode(item, tensors, depth + 1) for item, _ in zip(
            value, range(ITEMS + 1), strict=False))]
    if hasattr(value, "tolist"):  # a pandas Series, an array.array
        return encode(value.tolist(), tensors, depth + 1)
    raise ProtocolError(f"a value of type {type(value).__name__} is no plain data")


def _bytes(tag: str, dtype: str, shape, data: bytes, needs_grad: bool) -> list:
    if dtype not in DTYPES or len(data) > LIMIT:
        raise ProtocolError(f"a {tag} of {len(data)} bytes of {dtype} cannot be sent")
    return [tag, dtype, list(shape), base64.b64encode(data).decode("ascii"), needs_grad]


def decode(data, tensors: list | None = None, depth: int = 0):
    """The value of encoded data. Tensors that are part of a graph are appended to tensors.

    Raises ProtocolError when the data is not what encode makes.
    """
    if data is None or isinstance(data, bool | float | str) or (
            isinstance(data, int) and abs(data) < WHOLE):
        return data
    if depth > DEPTH or not isinstance(data, list) or not data:
        raise ProtocolError("not a plain value")
    tag, *rest = data
    if tag in ("tensor", "array"):
        return _from_bytes(rest, tag, tensors)
    if tag in ("dict", "set") and len(rest) > 2 * KEYS:
        raise ProtocolError(f"a {tag} of more than {KEYS} items")
    items = [decode(item, tensors, depth + 1) for item in rest]
    try:
        if tag == "dict":
            return dict(zip(items[::2], items[1::2], strict=True))
        return SEQUENCES[tag](items)
    except (TypeError, ValueError, KeyError):
        raise ProtocolError(f"not a plain {str(tag)[:20]}") from None


def check_size(data) -> None:
    """Raise ProtocolError when encoded data holds more than ITEMS: four million empty rows are
    twenty bytes, and three gigabytes to a test that iterates over them."""
    left, todo = ITEMS, [data]
    while todo:
        part = todo.pop()
        left -= 1
        if isinstance(part, list) and part[:1] in (["tensor"], ["array"]):
            with contextlib.suppress(TypeError, IndexError):  # which decode will refuse
                left -= math.prod(max(n, 1) for n in part[2])
        elif isinstance(part, list):
            todo += part[1:]
        if left < 0:
            raise ProtocolError(f"a result of more than {ITEMS} items")


def _from_bytes(parts, tag: str, tensors: list | None):
    try:
        dtype, shape, text, needs_grad = parts
        raw, kind = base64.b64decode(text, validate=True), DTYPES[dtype]
        good = (len(shape) <= 8 and all(type(n) is int and n >= 0 for n in shape)
                and math.prod(max(n, 1) for n in shape) <= LIMIT  # 10**9 empty rows are many
                and len(raw) == math.prod(shape) * kind.itemsize)
    except (TypeError, ValueError, KeyError):
        good = False
    if not good:
        raise ProtocolError(f"not a plain {tag}")
    flat = torch.frombuffer(bytearray(raw), dtype=torch.uint8) if raw else torch.empty(
        0, dtype=torch.uint8)
    value = (flat != 0 if kind is torch.bool else flat.view(kind)).reshape(shape)
    if tag == "array":
        array = value.numpy()
        return array if shape else array[()]
    if needs_grad is True and kind.is_floating_point:
        value.requires_grad_()
        if tensors is not None:
            tensors.append(value)
    return value


def send(channel: socket.socket, message) -> None:
    """Write one message; raises ProtocolError when it is too large, Closed when nobody reads."""
    body = json.dumps(message).encode("utf-8")
    if len(body) > LIMIT:
        raise ProtocolError(f"{len(body)} bytes are too much; the limit is {LIMIT}")
    try:
        channel.sendall(struct.pack("!I", len(body)) + body)
    except TimeoutError:
        raise
    except OSError as error:
        raise Closed(str(error)) from None


def receive(channel: socket.socket, seconds: float | None = None):
    """Read one message. Raises TimeoutError after seconds, Closed at the end, or ProtocolError."""
    until = None if seconds is None else time.monotonic() + seconds
    [size] = struct.unpack("!I", _exactly(channel, 4, until))
    if size > LIMIT:
        raise ProtocolError(f"a message of {size} bytes is too large")
    try:
        return json.loads(_exactly(channel, size, until))
    except (ValueError, RecursionError):
        raise ProtocolError("not JSON") from None


def _exactly(channel: socket.socket, size: int, until: float | None) -> bytes:
    data = bytearray()
    while len(data) < size:
        if until is not None:
            left = until - time.monotonic()
            if left <= 0:
                raise TimeoutError
            channel.settimeout(left)
        try:
            piece = channel.recv(min(size - len(data), 1 << 20))
        except TimeoutError:
            raise
        except OSError as error:
            raise Closed(str(error)) from None
        if not piece:
            raise Closed("the other side is gone")
        data += piece
    return bytes(data)
