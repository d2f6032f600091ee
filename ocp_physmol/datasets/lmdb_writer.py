"""Write structures as OCP LMDBs."""

import errno
import io
import pickle
from collections.abc import Iterable
from pathlib import Path

import lmdb
import numpy as np
import torch
from torch_geometric.data import Data

from ocp_physmol.errors import CURES, UserError, lacks_memory

GROWTH = 1 << 26  # bytes by which the memory map grows when it is full


def write_lmdb(folder: Path, structures: Iterable[Data]) -> int:
    """Write structures to `folder`/data.lmdb; return their number.

    Their sizes go to metadata.npz, for fairchem's load balancing over ranks.

    Raises:
        UserError: if the disk is full, or a limit is met.
    """
    folder.mkdir()
    natoms, path = [], str(folder / "data.lmdb")
    try:
        with lmdb.open(path, subdir=False, lock=False, sync=False, map_size=GROWTH) as env:
            for index, data in enumerate(structures):
                natoms.append(int(data.natoms))
                _put(env, str(index), data)
            _put(env, "length", len(natoms))
            env.sync(True)
    except lmdb.Error as e:
        if lacks_memory(e):
            raise MemoryError from e
        raise UserError(f"{path} cannot be written ({e}); {CURES[errno.ENOSPC]}") from e
    np.savez(folder / "metadata.npz", natoms=np.array(natoms, dtype=np.int64))
    return len(natoms)


class _Pickler(pickle.Pickler):
    """Tensors as NumPy arrays, which unpack to tensors five times faster than torch's pickles."""

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
