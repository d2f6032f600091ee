"""Write structures as OCP LMDBs that are either complete or not there."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import numpy as np
import torch

from ocp_physmol.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch_geometric.data import Data

REPORT = "report.json"
GROWTH = 1 << 26  # bytes by which the memory map grows when it is full


@contextmanager
def data_folder(output: Path, report: dict) -> Iterator[Path]:
    """A folder to write a data set to; it becomes `output`, with `report` in it, only at the end.

    What was there before stays until then, and is replaced only if it is a data set too.

    Raises:
        UserError: if `output` holds something else.
    """
    replaceable = not output.exists() or (
        output.is_dir() and ((output / REPORT).is_file() or not any(output.iterdir()))
    )
    if not replaceable:
        raise UserError(f"{output} exists and is no data set of ours; choose another --output")
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    old = output.with_name(f".{output.name}.{os.getpid()}.old")
    partial.mkdir()
    try:
        yield partial
        (partial / REPORT).write_text(json.dumps(report, indent=2) + "\n")
        if output.exists():
            output.rename(old)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def write_lmdb(folder: Path, structures: Iterable[Data]) -> int:
    """Write `structures` to `folder`/data.lmdb and their sizes to metadata.npz; return the number.

    fairchem's load balancing over ranks reads `natoms` from metadata.npz.
    """
    folder.mkdir()
    natoms = []
    path = str(folder / "data.lmdb")
    with lmdb.open(path, subdir=False, lock=False, sync=False, map_size=GROWTH) as env:
        for index, data in enumerate(structures):
            natoms.append(int(data.natoms))
            _put(env, str(index), data)
        _put(env, "length", len(natoms))
        env.sync(True)
    np.savez(folder / "metadata.npz", natoms=np.array(natoms, dtype=np.int64))
    return len(natoms)


class _Pickler(pickle.Pickler):
    """Tensors as NumPy arrays, which unpack five times faster than torch's own format in a pickle.

    What comes out of `pickle.loads` are tensors all the same.
    """

    def reducer_override(self, value):
        if isinstance(value, torch.Tensor):
            return torch.from_numpy, (value.detach().cpu().numpy(),)
        return NotImplemented


def _put(env: lmdb.Environment, key: str, value) -> None:
    buffer = io.BytesIO()
    _Pickler(buffer, protocol=4).dump(value)
    try:
        with env.begin(write=True) as txn:
            txn.put(key.encode("ascii"), buffer.getvalue())
    except lmdb.MapFullError:
        env.set_mapsize(env.info()["map_size"] + GROWTH)
        _put(env, key, value)
