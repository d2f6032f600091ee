"""The file that the OC20 leaderboard takes: predictions for four splits in one .npz.

It is what fairchem's make_submission_file.py writes. Each split has `{split}_ids`, unicode text
("sid_fid" for S2EF, else "sid"), and

    S2EF    `{split}_energy` [n], `{split}_forces` [free atoms, 3], `{split}_chunk_idx` [n - 1]
    IS2RE   `{split}_energy` [n]
    IS2RS   `{split}_pos` [all atoms, 3], `{split}_chunk_idx` [n - 1]

in eV, eV/Angstrom and Angstrom, in the order of the ids; `np.split` with chunk_idx takes systems
apart again.
"""

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import ase.io
import numpy as np
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


class Size(NamedTuple):
    """Numbers of atoms of a system."""

    all: int
    free: int


def system_id(task: str, entry) -> str:
    """The leaderboard's name of an LMDB's entry."""
    values = [entry[key] for key in (("sid", "fid") if task == "s2ef" else ("sid",))]
    return "_".join(str(identifier(value)) for value in values)


# ---- reading and writing


def read_predictions(task: str, path: Path, split: str) -> dict[str, np.ndarray]:
    """The arrays of a split from what fairchem writes: an .npz or a folder of {sid}.traj.

    Raises:
        UserError: if `path` is missing, damaged, or no predictions for `task`.
    """
    if task == "is2re-relaxations" or (task == "is2rs" and path.is_dir()):
        return _read_trajectories(task, path, split)
    arrays = read_arrays(task, path, split)
    if "energy" in arrays:
        arrays["energy"] = arrays["energy"].reshape(-1)  # predict writes [n, 1]
    return arrays


def _read_trajectories(task: str, folder: Path, split: str) -> dict[str, np.ndarray]:
    files = sorted(folder.glob("*.traj"))
    if not files:
        raise UserError(
            f"{folder}, split {split}, is no folder of {{sid}}.traj files; "
            "give the traj_dir that run-relaxations filled"
        )
    values = []
    for file in tqdm(files, desc=f"Reading {folder.name}", unit=" files", mininterval=1):
        try:
            (last,) = ase.io.iread(file, index=-1, format="traj")
            values.append(last.positions if task == "is2rs" else last.get_potential_energy())
        except Exception as e:  # ASE raises a different one for each kind of damage
            raise UserError(
                f"{file}, split {split}: the last frame's {FIELDS[task][1]} cannot be read "
                f"({type(e).__name__}: {e}); relax system {file.stem} again"
            ) from e
    ids = np.array([file.stem for file in files])
    if task == "is2rs":
        chunk_idx = np.cumsum([len(positions) for positions in values])[:-1]
        return {"ids": ids, "pos": np.concatenate(values), "chunk_idx": chunk_idx}
    return {"ids": ids, "energy": np.array(values, dtype=float)}


def read_arrays(task: str, file: Path, split: str, prefix: str = "") -> dict[str, np.ndarray]:
    """The arrays of a task's fields, which are called `prefix` + field in an .npz file.

    Raises:
        UserError: if the file is damaged, or lacks one, or holds one that needs unpickling.
    """
    arrays = {}
    with open_npz(file) as npz:
        for field in FIELDS[task]:
            where, key = f"{file}, split {split}", prefix + field
            if key not in npz.files:
                expected = ", ".join(prefix + name for name in FIELDS[task])
                raise UserError(f"{where}: there is no '{key}'; {task} needs {expected}")
            try:
                arrays[field] = npz[key]
            except ValueError as e:
                raise UserError(
                    f"{where}: '{key}' is no plain array ({e}); save it as numbers, ids as text"
                ) from e
            except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
                raise UserError(
                    f"{where}: '{key}' is damaged ({e}); make or copy the file again"
                ) from e
    return arrays


@contextmanager
def open_npz(file: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """An .npz file, opened without unpickling; UserError if it is none."""
    try:
        npz = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as e:
        raise UserError(f"{file} is no complete .npz file ({e}); make or copy it again") from e
    if not isinstance(npz, np.lib.npyio.NpzFile):
        raise UserError(f"{file} holds one array without a name; save it with np.savez")
    with npz:
        yield npz


def write_arrays(file: Path, arrays: Iterable[tuple[str, np.ndarray]]) -> None:
    """As np.savez_compressed, but with one array at a time in memory."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, array in arrays:
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


# ---- checking


def reason_to_refuse(
    arrays: dict[str, np.ndarray],
    systems: dict[str, Size],
    others: Iterable[tuple[str, dict[str, Size]]],
) -> str | None:
    """What the leaderboard would refuse a split's arrays for, and the cure; None if nothing.

    Args:
        systems: that make up the split, by their ids.
        others: the other splits and their systems, by which swapped files are recognised.
    """
    ids = arrays["ids"]
    problem = _misshapen("ids", ids, "U", (ids.size,)) or _wrong_ids(ids.tolist(), systems, others)
    if not problem and "energy" in arrays:
        problem = _wrong_energies(arrays["energy"], ids)
    for field, kind in ATOMS.items():
        if not problem and field in arrays:
            problem = _wrong_atoms(field, kind, arrays, [systems[name] for name in ids.tolist()])
    return problem


def _misshapen(field: str, array: np.ndarray, kinds: str, shape: tuple[int, ...]) -> str | None:
    if array.dtype.kind in kinds and array.shape == shape:
        return None
    return (
        f"{field} is {array.dtype} of shape {array.shape} where {KINDS[kinds]} of shape {shape} "
        "belong; convert it"
    )


def _wrong_ids(names: list[str], systems: dict[str, Size], others: Iterable) -> str | None:
    given = set(names)
    if given.isdisjoint(systems):
        for split, theirs in others:
            shared = [name for name in names if name in theirs]
            if shared:
                return (
                    f"these are the predictions of split {split}, to which id '{shared[0]}' "
                    "belongs; they are swapped, give each split its own"
                )
    if len(given) < len(names):
        repeated = next(name for name, count in Counter(names).items() if count > 1)
        return (
            f"id '{repeated}' is repeated (there are {len(names) - len(given)} ids too many); "
            "keep one prediction of each system"
        )
    missing = [name for name in systems if name not in given]
    unknown = [name for name in names if name not in systems]
    problems, cure = [], "predict the whole split"
    if missing:
        problems.append(f"id '{missing[0]}' is missing ({len(missing)} of {len(systems)} are)")
    if unknown:
        problems.append(f"id '{unknown[0]}' is not in the data ({len(unknown)} are not)")
        cure = "correct --data or --part, or remove it"
    return f"{' and '.join(problems)}; {cure}" if problems else None


def _wrong_energies(energy: np.ndarray, ids: np.ndarray) -> str | None:
    problem = _misshapen("energy", energy, "f", ids.shape)
    if problem:
        return problem
    bad = np.flatnonzero(~np.isfinite(energy))
    if len(bad):
        return (
            f"the energy of id '{ids[bad[0]]}' is {energy[bad[0]]} ({len(bad)} are not finite); "
            "see what the model makes of this system and predict again"
        )
    return None


def _wrong_atoms(field: str, kind: str, arrays: dict, sizes: list[Size]) -> str | None:
    values, chunk_idx, ids = arrays[field], arrays["chunk_idx"], arrays["ids"]
    problem = _misshapen(field, values, "f", (*values.shape[:1], 3))
    problem = problem or _misshapen("chunk_idx", chunk_idx, "iu", (len(ids) - 1,))
    if problem:
        return problem
    limits = np.concatenate([[0], chunk_idx.astype(np.int64), [len(values)]])
    rows, asked = np.diff(limits), np.array([getattr(size, kind) for size in sizes])
    wrong = np.flatnonzero(rows != asked)
    if len(wrong):
        first = wrong[0]
        if (rows == [size.all for size in sizes]).all():
            return (
                f"{field} of fixed atoms are in it (id '{ids[first]}' has {asked[first]} free of "
                f"{rows[first]} atoms); keep those of atoms whose 'fixed' is 0"
            )
        disorder = "chunk_idx is not monotonic, " if (rows < 0).any() else ""
        return (
            f"{disorder}id '{ids[first]}' has {rows[first]} rows of {field} for {asked[first]} "
            f"atoms ({kind} atoms count; {len(wrong)} of {len(ids)} systems differ); "
            "make chunk_idx the sum of sizes after each id but the last"
        )
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        owner = ids[np.searchsorted(limits, bad[0], side="right") - 1]
        return (
            f"{field} of id '{owner}' hold NaN or infinity; "
            "see what the model makes of this system and predict again"
        )
    return None
