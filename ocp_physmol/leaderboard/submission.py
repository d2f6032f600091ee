"""The file that the OC20 leaderboard takes: predictions for four splits in one .npz.

It is what fairchem's make_submission_file.py writes. Each split has `{split}_ids`, unicode text
("sid_fid" for S2EF, else "sid"), and, in the order of the ids, in eV and Angstrom,

    S2EF    `{split}_energy` [n], `{split}_forces` [free atoms, 3], `{split}_chunk_idx` [n - 1]
    IS2RE   `{split}_energy` [n]
    IS2RS   `{split}_pos` [all atoms, 3], `{split}_chunk_idx` [n - 1]

`np.split` with chunk_idx takes systems apart again. A file that is missing or damaged, lacks a
field, or needs unpickling, raises a UserError.
"""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import ase.io
import numpy as np
import pandas as pd
from tqdm import tqdm

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import UserError

FIELDS = {
    "s2ef": ("ids", "energy", "forces", "chunk_idx"),
    "is2re": ("ids", "energy"),
    "is2re-relaxations": ("ids", "energy"),
    "is2rs": ("ids", "pos", "chunk_idx"),
}
ATOMS = {"forces": "free", "pos": "all"}  # of a system, that these fields have rows for
KINDS = {"U": "unicode text", "f": "floating-point numbers", "iu": "integers"}  # of NumPy's dtypes
NO_ZIP = (OSError, EOFError, zipfile.BadZipFile)
Arrays = dict[str, np.ndarray]  # of a split, by field


def system_id(task: str, entry) -> str:
    """The leaderboard's name of an LMDB's entry."""
    keys = ("sid", "fid") if task == "s2ef" else ("sid",)
    return "_".join(str(identifier(entry[key])) for key in keys)


def boundaries(field: str, arrays: Arrays) -> np.ndarray:
    """The rows of a field at which the second and each later system begins, as np.split wants."""
    return arrays["chunk_idx"] if field in ATOMS else np.arange(1, len(arrays["ids"]))


# ---- reading and writing


def read_predictions(task: str, path: Path, split: str) -> Arrays:
    """The arrays of a split from what fairchem writes: an .npz or a folder of {sid}.traj."""
    if task == "is2re-relaxations" or (task == "is2rs" and path.is_dir()):
        return _read_trajectories(task, path, split)
    arrays = read_arrays(task, path, split)
    if "energy" in arrays:
        arrays["energy"] = arrays["energy"].reshape(-1)  # predict writes [n, 1]
    return arrays


def _read_trajectories(task: str, folder: Path, split: str) -> Arrays:
    files = sorted(folder.glob("*.traj"))
    if not files:
        cure = "give the traj_dir that run-relaxations filled"
        raise UserError(f"{folder}, split {split}, is no folder of {{sid}}.traj files; {cure}")
    ids, values = np.array([file.stem for file in files]), []
    for file in tqdm(files, f"Reading {folder.name}", unit=" files", mininterval=1):
        try:
            (last,) = ase.io.iread(file, index=-1, format="traj")
            values.append(last.positions if task == "is2rs" else last.get_potential_energy())
        except Exception as e:  # ASE raises a different one for each kind of damage
            raise UserError(
                f"{file}, split {split}: the last frame's {FIELDS[task][1]} cannot be read "
                f"({type(e).__name__}: {e}); relax system {file.stem} again"
            ) from e
    if task == "is2rs":
        chunk_idx = np.cumsum([len(positions) for positions in values])[:-1]
        return {"ids": ids, "pos": np.concatenate(values), "chunk_idx": chunk_idx}
    return {"ids": ids, "energy": np.array(values, dtype=float)}


def read_arrays(task: str, file: Path, split: str, prefix: str = "") -> Arrays:
    """The arrays of a task's fields, which are called `prefix` + field in an .npz file."""
    arrays = {}
    with open_npz(file) as npz:
        for field in FIELDS[task]:
            try:
                arrays[field] = npz[prefix + field]
            except (KeyError, ValueError, zlib.error, *NO_ZIP) as e:
                raise UserError(
                    f"{file}, split {split}: '{prefix}{field}' cannot be read ({e}); "
                    f"write or copy the file again, with plain arrays {', '.join(FIELDS[task])}"
                ) from e
    return arrays


def open_npz(file: Path) -> np.lib.npyio.NpzFile:
    """An .npz file, opened without unpickling."""
    if not file.is_file():  # a pipe would wait for its other end
        raise UserError(
            f"{file} is no complete .npz file (it is missing, or no file); make or copy it again"
        )
    try:
        npz = np.load(file, allow_pickle=False)
    except (ValueError, *NO_ZIP) as e:
        raise UserError(f"{file} is no complete .npz file ({e}); make or copy it again") from e
    if not isinstance(npz, np.lib.npyio.NpzFile):
        raise UserError(f"{file} holds one array without a name; save it with np.savez")
    return npz


def write_splits(file: Path, splits: Iterable[tuple[str, Arrays]]) -> None:
    """As np.savez_compressed, but with one split at a time in memory."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for split, arrays in splits:
            for field, array in arrays.items():
                with archive.open(f"{split}_{field}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)


# ---- checking


def require_complete(
    arrays: Arrays, systems: pd.DataFrame, others: Iterable[tuple[str, pd.DataFrame]]
) -> None:
    """Raise a UserError, which the caller gives a path, for arrays that the server would refuse.

    `systems` has the numbers of "all" and "free" atoms of the split's systems, by id; `others` has
    the same for the other splits, by which swapped files are recognised.
    """
    ids = arrays["ids"]
    _require_shape("ids", ids, "U", (ids.size,))
    _require_ids(pd.Index(ids), systems.index, others)
    for field in [name for name in arrays if name not in ("ids", "chunk_idx")]:
        values, starts = arrays[field], boundaries(field, arrays)
        shape = (*values.shape[:1], 3) if field in ATOMS else ids.shape
        _require_shape(field, values, "f", shape)
        _require_shape("chunk_idx", starts, "iu", (len(ids) - 1,))
        if field in ATOMS:
            rows = np.diff(starts.astype(np.int64), prepend=0, append=len(values))
            _require_rows(field, rows, systems.loc[ids])
        bad = np.argwhere(~np.isfinite(values))[:, 0]
        owners = ids[np.unique(np.searchsorted(starts, bad, side="right"))]
        if len(owners):
            raise UserError(
                f"id '{owners[0]}' has NaN or infinity in its {field} ({len(owners)} of {len(ids)} "
                "do); see what the model makes of this system and predict again"
            )


def _require_shape(field: str, array: np.ndarray, kinds: str, shape: tuple[int, ...]) -> None:
    if array.dtype.kind not in kinds or array.shape != shape:
        raise UserError(
            f"{field} is {array.dtype} of shape {array.shape} where {KINDS[kinds]} of shape "
            f"{shape} belong; convert it"
        )


def _require_ids(ids: pd.Index, systems: pd.Index, others: Iterable) -> None:
    missing = systems.difference(ids, sort=False)
    for split, theirs in others if len(missing) == len(systems) else ():
        shared = ids.intersection(theirs.index, sort=False)
        if len(shared):
            problem = f"these are the predictions of split {split}, to which id '{shared[0]}'"
            raise UserError(f"{problem} belongs; they are swapped, give each split its own")
    unknown, repeated = ids.difference(systems, sort=False), ids[ids.duplicated()]
    found = {"missing": missing, "not in the data": unknown, "repeated": repeated}
    problems = [f"id '{x[0]}' is {kind} ({len(x)} in all)" for kind, x in found.items() if len(x)]
    if problems:
        cure = f"predict each of the {len(systems)} systems once, or correct --data or --part"
        raise UserError(f"{' and '.join(problems)}; {cure}")


def _require_rows(field: str, rows: np.ndarray, systems: pd.DataFrame) -> None:
    kind = ATOMS[field]
    wrong = np.flatnonzero(rows != systems[kind])
    if not len(wrong):
        return
    cause, cure = "", "make chunk_idx the sum of sizes after each id but the last"
    if (rows == systems["all"]).all():
        cause, cure = f"{field} of fixed atoms are in it, ", "keep those of atoms with 'fixed' 0"
    elif (rows < 0).any():
        cause = "chunk_idx is not monotonic, "
    first = wrong[0]
    raise UserError(
        f"{cause}id '{systems.index[first]}' has {rows[first]} rows of {field} for "
        f"{systems[kind].iloc[first]} atoms ({kind} atoms count; {len(wrong)} of {len(systems)} "
        f"systems differ); {cure}"
    )
