"""fairchem's LMDB dataset with an eye on what comes out of it."""

from __future__ import annotations

import pickle
from pathlib import Path

import lmdb
import numpy as np
import torch
from fairchem.core.common.registry import registry
from fairchem.core.datasets.lmdb_dataset import LmdbDataset

from ocp_physmol.errors import UserError
from ocp_physmol.model.elements import MAX_ATOMIC_NUMBER

MIN_DISTANCE = 0.1  # Angstrom; no two nuclei are ever that close


@registry.register_dataset("physmol_lmdb")
class PhysMolLmdbDataset(LmdbDataset):
    """OCP LMDBs (a file, or a folder of shards) that are checked entry by entry as they are read.

    Takes fairchem's dataset keys, and `required`: what every entry must hold after `key_mapping`,
    beside `pos`, `atomic_numbers` and `natoms`. The trainer asks there for its labels.

    Raises:
        UserError: for a missing, empty or truncated file, an entry that cannot be unpacked, lacks
            a key, or holds NaN, an unknown element or two atoms in one place.
    """

    def __init__(self, config: dict) -> None:
        src = config.get("src")
        self.path, self.envs = Path(str(src)), []  # for __del__, should __init__ not finish
        if not isinstance(src, str) or not self.path.exists():
            raise UserError(
                f"dataset src: {src} does not exist; "
                "make the data first or correct the path in the config"
            )
        try:
            for path in [self.path] if self.path.is_file() else self.path.glob("*.lmdb"):
                _refuse_truncated(path)
            super().__init__(config)
        except (lmdb.Error, pickle.UnpicklingError, EOFError) as e:
            raise UserError(f"{src} is no complete LMDB ({e}); make or download it again") from e
        except AssertionError as e:
            raise UserError(f"dataset src: {src} holds no *.lmdb file ({e})") from e
        if len(self) == 0:
            raise UserError(f"{src} is empty; make or download it again")
        self.required = config.get("required", [])
        self._checked = np.zeros(len(self), dtype=bool)  # once is enough

    def __getitem__(self, idx: int):
        try:
            data = super().__getitem__(idx)
        except (lmdb.Error, pickle.UnpicklingError, EOFError, TypeError, AttributeError) as e:
            raise UserError(
                f"{self.path}, entry {idx} cannot be unpacked ({type(e).__name__}: {e}); "
                "the file is damaged, make or download it again"
            ) from e
        if not self._checked[idx]:
            problem = find_problem(data, self.required)
            if problem:
                raise UserError(f"{self.path}, entry {idx}: {problem}")
            self._checked[idx] = True
        return data

    def __del__(self) -> None:
        for env in [*self.envs, *([self.env] if hasattr(self, "env") else [])]:
            env.close()


def _refuse_truncated(path: Path) -> None:
    """Reading past the end of a mapped file kills the process, so compare the sizes first."""
    with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as env:
        needed = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
    if path.stat().st_size < needed:
        raise UserError(
            f"{path} is truncated: it has {path.stat().st_size} of {needed} bytes; "
            "make or download it again"
        )


def find_problem(data, required) -> str | None:
    """What makes a structure unfit to learn from, and the cure; None if nothing does."""
    for key in ("pos", "atomic_numbers", "natoms", *required):
        if key not in data or data[key] is None:
            return f"has no '{key}'; check the dataset's key_mapping or add it to the data"
        value = torch.as_tensor(data[key])
        if value.numel() == 0:
            return f"'{key}' is empty; remove this entry"
        if not torch.isfinite(value).all():
            return f"'{key}' holds NaN or infinity; remove this entry or mend its label"
    numbers = data.atomic_numbers
    unknown = (numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)
    if unknown.any():
        return f"atomic_numbers holds {numbers[unknown][0]:g}, which is no element"
    if len(numbers) != len(data.pos) or len(numbers) != int(data.natoms):
        return (
            f"{len(data.pos)} positions, {len(numbers)} atomic_numbers and natoms "
            f"{int(data.natoms)} do not belong to one structure"
        )
    if len(data.pos) > 1:
        distance, pair = _closest(data.pos)
        if distance < MIN_DISTANCE:
            return f"atoms {pair[0]} and {pair[1]} are {distance:.3f} Angstrom apart; remove it"
    return None


def _closest(pos: torch.Tensor) -> tuple[float, tuple[int, int]]:
    """Smallest distance between two atoms, and which two."""
    distance = torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist")
    distance.fill_diagonal_(float("inf"))
    index = int(distance.argmin())
    return float(distance.flatten()[index]), (index // len(pos), index % len(pos))
