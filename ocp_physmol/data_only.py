"""Files from others are data, not programs: what may be read of them.

A pickle, and so an entry of an LMDB or an object in a checkpoint, can call any function when it is
read. Here it gets tensors, arrays, structures and plain values, and is refused by name if it asks
for anything else, unless the user has said otherwise (trust.py).
"""

import functools
import importlib
import io
import math
import pickle
import re
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any, BinaryIO, Literal

import numpy as np
import torch

from ocp_physmol.errors import UserError
from ocp_physmol.trust import CURE, trusted

# what structures and their labels are made of, as PyG 1 and 2, NumPy 1 and 2 and torch pickle it
_NAMES = {
    "torch_geometric.data.data": "Data DataEdgeAttr DataTensorAttr",
    "torch_geometric.data.storage": "GlobalStorage",
    "torch": "Size device float16 bfloat16 float32 float64 int8 uint8 int16 int32 int64 bool "
    "FloatStorage DoubleStorage HalfStorage LongStorage IntStorage ByteStorage BoolStorage",
    "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_parameter",
    "torch._tensor": "_rebuild_from_type_v2",
    "collections": "OrderedDict",
    "builtins": "set frozenset complex object",
    "copyreg": "_reconstructor",
}
_OLD_MODULES = {"__builtin__": "builtins", "copy_reg": "copyreg"}
ALLOWED = {(module, name) for module, names in _NAMES.items() for name in names.split()}


class Refused(pickle.UnpicklingError):
    """A pickle asks for something that is no data."""


def loads(content: bytes) -> Any:
    """As `pickle.loads`, of data; else raises `Refused`, and for damage UnpicklingError."""
    if trusted():
        return pickle.loads(content)
    try:
        return _Unpickler(io.BytesIO(content)).load()
    except pickle.UnpicklingError:
        raise
    except Exception as e:  # damage can lead to any
        raise pickle.UnpicklingError(f"{type(e).__name__}: {e}") from e


def load_tensors(
    path: str | Path, map_location: str | torch.device | None = None, kind: str = "file"
) -> Any:
    """What `torch.save` wrote; a UserError if it is damaged or holds more than data."""
    try:
        if trusted():
            return torch.load(path, map_location=map_location, weights_only=False)
        return _load_weights(path, map_location)
    except (OSError, MemoryError):
        raise
    except Refused as e:
        raise UserError(f"{kind} {path} is refused: {e}") from e
    except Exception as e:  # damage can lead to any
        if asked := re.search(r"GLOBAL (\S+)", str(e)):
            raise UserError(f"{kind} {path} asks for {asked[1]}, which is no data; {CURE}") from e
        said = re.search(r"WeightsUnpickler error: (.+)", str(e))
        reason = (said[1] if said else str(e).split("\n")[0])[:200]
        raise UserError(f"{kind} {path} cannot be read ({reason}); use an undamaged one") from e


def _load_weights(file: str | Path | BinaryIO, map_location=None) -> Any:
    """What `torch.save` wrote since 2018.

    Before, it wrote archives of tar, in which `weights_only` does not hold until torch 2.6
    (CVE-2025-32434).
    """
    if _is_archive(file):
        raise Refused(f"it is a tar archive, of a torch before 0.4; {CURE}")
    return torch.load(file, map_location=map_location, weights_only=True)


def _is_archive(file: str | Path | BinaryIO) -> bool:
    """Whether it is a tar archive that holds something; a file of zeros holds nothing."""
    if isinstance(file, str | Path):
        with open(file, "rb") as opened:
            return _is_archive(opened)
    place = file.tell()
    try:
        with tarfile.open(fileobj=file, mode="r:") as archive:  # as torch opens it: not compressed
            return archive.next() is not None
    except tarfile.TarError:
        return False
    finally:
        file.seek(place)


class _Unpickler(pickle.Unpickler):
    """Finds what is listed above, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        module = _OLD_MODULES.get(module, module)
        if (module, name) in STAND_INS:
            return _unchangeable(STAND_INS[module, name])
        if (module, name) not in ALLOWED:
            raise Refused(f"it asks for {module}.{name}, which is no data; {CURE}")
        return _unchangeable(getattr(importlib.import_module(module), name))


def _unchangeable(found: Any) -> Any:
    """A function wrapped: a pickle can set attributes of what it is given."""
    return functools.partial(found) if isinstance(found, FunctionType) else found


class _TorchFunctions:
    """What our LMDBs name as the owner of `torch.from_numpy`."""


def _get_from_numpy(owner: type, name: str) -> Callable:
    """`getattr`, as our LMDBs use it: for one function."""
    if owner is not _TorchFunctions or name != "from_numpy":
        raise Refused(f"it asks for the attribute {name} of {owner}, which is no data; {CURE}")
    return torch.from_numpy


def _storage_from_bytes(content: bytes) -> Any:
    """A tensor's storage, which torch itself would unpickle without limits."""
    return _load_weights(io.BytesIO(content))


def _encoded(text: str, encoding: str) -> bytes:
    """`_codecs.encode`, as pickles of protocol 2 use it: for bytes."""
    if encoding != "latin1":
        raise Refused(f"it encodes text as {encoding}, which is no data; {CURE}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """`bytes`, as pickles of protocol 2 write an empty one."""
    return b""


class _Kind:
    """`numpy.dtype` of plain numbers and texts, which a pickle can only turn round.

    NumPy believes a pickled dtype whatever it says of sizes, fields and objects.
    """

    def __init__(self, code: str, *_: object) -> None:
        self.dtype = np.dtype(code if isinstance(code, str) else "V")
        plain = self.dtype.fields is None and self.dtype.subdtype is None
        if not plain or self.dtype.kind not in "biufcSU":
            raise Refused(f"it has an array of type {code!r}, which is no number; {CURE}")

    def __setstate__(self, state: tuple) -> None:
        _, order, *others = state
        if any(other is not None for other in others[:3]):
            raise Refused(f"it has an array of a composed type, which is no number; {CURE}")
        self.dtype = self.dtype.newbyteorder(order)


class _Array(np.ndarray):
    """An array that a pickle fills with bytes."""

    def __setstate__(self, state: tuple) -> None:
        version, shape, kind, fortran, raw = state
        if not (isinstance(kind, _Kind) and isinstance(raw, bytes)):
            raise Refused(f"it has an array of objects, which are no numbers; {CURE}")
        if math.prod(shape) * kind.dtype.itemsize != len(raw) or min(shape, default=0) < 0:
            raise pickle.UnpicklingError(f"an array of {shape} has {len(raw)} bytes")
        super().__setstate__((version, shape, kind.dtype, fortran, raw))

    def __reduce_ex__(self, protocol):
        return self.view(np.ndarray).__reduce_ex__(protocol)  # as any other, to other processes


def _empty_array(*_: object) -> np.ndarray:
    """`numpy.core.multiarray._reconstruct`: what `__setstate__` fills."""
    return _Array((0,), np.int8)


def _array(raw: Any, kind: _Kind, shape: tuple, order: Literal["C", "F"]) -> np.ndarray:
    """`numpy.core.numeric._frombuffer`, of pickles of protocol 5."""
    return np.frombuffer(bytes(raw), kind.dtype).reshape(shape, order=order).copy()


def _number(kind: _Kind, raw: bytes) -> Any:
    return np.frombuffer(raw, kind.dtype, count=1)[0]


_OF_NUMPY = {"_reconstruct": _empty_array, "scalar": _number, "_frombuffer": _array}
STAND_INS = {
    ("numpy", "dtype"): _Kind,
    ("numpy", "ndarray"): "numpy.ndarray",  # a name, which nothing can call
    **{
        (f"numpy.{core}.{module}", name): function
        for core in ("core", "_core")
        for module in ("multiarray", "numeric")
        for name, function in _OF_NUMPY.items()
    },
    ("_codecs", "encode"): _encoded,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "getattr"): _get_from_numpy,
    ("torch._C", "_VariableFunctionsClass"): _TorchFunctions,
    ("torch.storage", "_load_from_bytes"): _storage_from_bytes,
}
