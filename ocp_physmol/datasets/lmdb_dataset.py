"""fairchem's LMDB dataset, with a check of every entry that is read."""

import bisect
import pickle
import zipfile
from contextlib import suppress
from functools import cached_property
from pathlib import Path

import lmdb
import numpy as np
import torch
from fairchem.core.common.registry import registry
from fairchem.core.datasets.lmdb_dataset import LmdbDataset
from torch_geometric.data.data import BaseData

from ocp_physmol.data_only import Refused, loads
from ocp_physmol.datasets.entry_check import find_problem, kinds
from ocp_physmol.errors import UserError, blame, lacks_memory
from ocp_physmol.trust import trusted

UNREADABLE_ARRAYS = (ValueError, AssertionError, OSError, EOFError, KeyError, zipfile.BadZipFile)
DAMAGE = (lmdb.Error, pickle.UnpicklingError, EOFError, TypeError, AttributeError, ImportError)


@registry.register_dataset("physmol_lmdb")
class PhysMolLmdbDataset(LmdbDataset):
    """OCP LMDBs (a file, or a folder of shards) that are checked entry by entry as they are read.

    Takes fairchem's dataset keys, and `required`: keys, such as labels, that every entry must hold
    after `key_mapping`, beside `pos`, `atomic_numbers` and `natoms`. Entries without `tags` or
    `fixed` get zeros, without `sid` their index, unless those are required.

    A UserError names a missing, empty or truncated file, and an entry that cannot be unpacked,
    lacks a key, or holds NaN, an unknown element or two atoms in one place.
    """

    def __init__(self, config: dict) -> None:
        src = config.get("src")
        self.path = Path(str(src))
        self.files = [self.path] if self.path.is_file() else sorted(self.path.glob("*.lmdb"))
        if not self.files:
            lack = "holds no *.lmdb file" if self.path.is_dir() else "does not exist"
            raise UserError(f"dataset src: {src} {lack}; make the data first or correct the config")
        for path in self.files:
            _refuse_truncated(path)
        try:
            super().__init__(config)
        except (lmdb.Error, pickle.UnpicklingError, EOFError, AssertionError) as e:
            raise UserError(f"{src} cannot be opened ({e}); make or download it again") from e
        if len(self) == 0:
            raise UserError(f"{src} is empty; make or download it again")
        if self.path.is_file():  # as if it were a folder of one file
            self.envs, self._keylen_cumulative = [self.env], [len(self._keys)]
        self.required = config.get("required", [])
        self._checked = np.zeros(len(self), dtype=bool)  # each entry, when it is first read

    def __getitem__(self, idx: int) -> BaseData:
        data = self._read(idx)
        if not self._checked[idx]:
            if unfit := find_problem(data, self.required, self._first):
                raise self._refusal(idx, f": {unfit}")
            self._checked[idx] = True
        self._complete(data, idx)
        return data

    def _read(self, idx: int) -> BaseData:
        try:
            return super().__getitem__(idx)
        except Refused as e:
            raise self._refusal(idx, f" is refused: {e}") from e
        except DAMAGE as e:
            cure = "the file is damaged, make or download it again"
            if isinstance(e, ImportError):
                cure = "install the package that its entries need"
            problem = f" cannot be unpacked ({type(e).__name__}: {e}); {cure}"
            raise self._refusal(idx, problem) from e

    @cached_property
    def _metadata(self) -> dict[str, np.ndarray]:
        with blame(f"{self.path}: metadata.npz cannot be read", *UNREADABLE_ARRAYS):
            for file in self._metadata_files():  # fairchem would unpickle what they hold
                with np.load(file, allow_pickle=trusted()) as arrays:
                    for key in arrays:
                        arrays[key]
            return super()._metadata

    def _metadata_files(self) -> list[Path]:
        """Those that fairchem reads."""
        if named := self.config.get("metadata_path"):
            return [Path(named)]
        folders = (path.parent if path.is_file() else path for path in self.paths)
        return [f for f in (folder / "metadata.npz" for folder in folders) if f.is_file()]

    @cached_property
    def _first(self) -> dict[str, str]:
        return kinds(self._read(0))

    def _complete(self, data: BaseData, idx: int) -> None:
        """Add what fairchem takes for granted, and give lattices the shapes that batches need."""
        for key in ("tags", "fixed", "sid"):
            if key not in data and key not in self.required:
                zeros = torch.zeros(len(data.pos), dtype=torch.long)
                data[key] = int(self.indices[idx]) if key == "sid" else zeros
        for key, value in data:
            if isinstance(value, np.generic):  # which batches do not join
                data[key] = value.item()
        for key, shape in (("cell", (1, 3, 3)), ("pbc", (1, 3))):
            if key in data:
                data[key] = data[key].reshape(shape)

    def _refusal(self, idx: int, problem: str) -> UserError:
        """Names file, entry and problem: that the entry is no structure, or else `problem`."""
        idx = int(self.indices[idx])
        number = bisect.bisect(self._keylen_cumulative, idx)
        entry = idx - [0, *self._keylen_cumulative][number]
        with suppress(*DAMAGE):
            content = loads(self.envs[number].begin().get(str(entry).encode("ascii")))
            if not isinstance(content, BaseData):
                kind = type(content).__name__
                problem = f" is of type {kind}; make it a torch_geometric.data.Data with OCP's keys"
        return UserError(f"{self.files[number]}, entry {entry}{problem}")

    def __del__(self) -> None:
        with suppress(AttributeError, OSError):  # of files that __init__ has refused
            super().__del__()


def _refuse_truncated(path: Path) -> None:
    """Reading past the end of a mapped file kills the process, so compare the sizes first."""
    try:
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env:
            size, needed = path.stat().st_size, (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if size < needed:
            raise lmdb.Error(f"it is truncated to {size} of {needed} bytes")
    except lmdb.Error as e:
        if lacks_memory(e):
            raise MemoryError from e
        raise UserError(f"{path} is no complete LMDB ({e}); make or download it again") from e
