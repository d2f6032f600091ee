"""Files that ASE reads, as OCP LMDBs: ocp-physmol data files --help

A frame is taken if it has an energy and forces; a report lists what is left out, and why.

Frames of one file with the same atoms, cell and periodicity are one system: a relaxation, say. In a
.traj file the cell may change, too. The frames of a system are much alike, so they go into one
split together. Systems of different files are taken to be independent.
"""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ase import Atoms
from ase.io import iread
from fairchem.core.preprocessing import AtomsToGraphs
from torch_geometric.data import Data
from tqdm import tqdm

from ocp_physmol.datasets.lmdb_dataset import find_problem
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import Frame, cut, deal
from ocp_physmol.errors import UserError
from ocp_physmol.files import complete_folder

SUFFIXES = (".traj", ".xyz", ".extxyz", ".db")
BOX = 40.0  # Angstrom; length of the lattice vectors that a structure lacks, none of them a period
FLAT = 1e-3  # Angstrom; no cell is that thin
EXAMPLES = 3  # of what is left out, for each reason
CONVERTER = AtomsToGraphs(r_edges=False, r_fixed=True, r_pbc=True)


def find_files(source: Path) -> list[Path]:
    """The file itself, or all files below a folder that ASE reads frames from, in order.

    Raises:
        UserError: if there are none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise UserError(f"{source} does not exist; give a folder or a file that ASE reads")
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise UserError(
            f"{source} holds no {', '.join(SUFFIXES)} file; give another folder, or a single file "
            "of any format that ASE reads"
        )
    return files


def read(path: Path) -> Iterator[Atoms | Exception]:
    """The frames of a file; where reading breaks off, the last item is the exception."""
    atoms = None
    try:
        for atoms in iread(path, ":", do_not_split_by_at_sign=True):
            yield atoms
        if atoms is None:
            raise EOFError("it holds no frame")
    except Exception as e:  # what ASE's readers raise is as varied as what they read
        yield e


def to_data(atoms: Atoms, sid: int, fid: int) -> Data:
    """A labelled frame with the keys of OC20's S2EF data, and `pbc`."""
    bare = atoms.copy()
    given = bare.cell.any(1)
    bare.pbc &= given  # a zero vector is no period
    bare.cell = bare.cell.complete() * np.where(given, 1.0, BOX)[:, None]
    data = CONVERTER.convert(bare, sid)
    data.pbc = data.pbc[None]  # [1, 3]: a batch stacks them
    data.fid = fid
    # total energies reach 1e4 eV: only double precision resolves less than a meV of them
    data.y = torch.as_tensor(_label(atoms, "energy"), dtype=torch.float64).reshape(1)
    data.force = torch.as_tensor(_label(atoms, "forces"), dtype=torch.float32)
    return data


def _label(atoms: Atoms, name: str) -> np.ndarray | None:
    """Energy [] (eV) or forces [n, 3] (eV/Angstrom), no constraint applied; None if missing."""
    methods: dict[str, Any] = {"energy": atoms.get_potential_energy, "forces": atoms.get_forces}
    try:
        return np.asarray(methods[name](apply_constraint=False), dtype=np.float64)
    # no calculator, not this property, or no number
    except (RuntimeError, NotImplementedError, TypeError, ValueError):
        return None


def why_unfit(atoms: Atoms | Exception, max_force: float = np.inf) -> str | None:
    """What keeps a frame out of the data, None if nothing does."""
    if isinstance(atoms, Exception):
        return f"cannot be read from here on ({type(atoms).__name__}: {atoms})"
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        return "NaN or infinity in positions or cell"
    if np.linalg.matrix_rank(atoms.cell.array, tol=FLAT) < atoms.cell.any(1).sum():
        return "the cell is flat"
    if _partially_occupied(atoms):
        return "partially occupied sites in info['occupancy']"
    for name, shape in (("energy", ()), ("forces", atoms.positions.shape)):
        label = _label(atoms, name)
        if label is None:
            return f"no {name}"
        if label.shape != shape:
            return f"{name} of shape {list(label.shape)}"
        if not np.isfinite(label).all():
            return f"NaN or infinity in {name}"
    data = to_data(atoms, sid=0, fid=0)
    problem = find_problem(data, [])
    if problem:
        return problem
    largest = float((data.force.norm(dim=1) * (data.fixed == 0)).max())
    if largest > max_force:
        return f"a force of {largest:.1f} eV/Angstrom, above --max-force"
    return None


def _partially_occupied(atoms: Atoms) -> bool:
    sites = atoms.info.get("occupancy")  # as ASE reads it from CIF
    return isinstance(sites, dict) and any(
        share < 1 for species in sites.values() for share in species.values()
    )


def index_frames(files: list[Path], root: Path, max_force: float) -> tuple[list[Frame], dict]:
    """Read everything once.

    Returns:
        The usable frames, in the order of the files; and of what is left out, by reason, the
        number and the first examples.
    """
    frames: list[Frame] = []
    left_out: dict[str, dict] = {}
    systems = 0
    with tqdm(desc="Reading", unit=" frames", mininterval=1) as bar:
        for file, path in enumerate(files):
            name = path.name if path == root else path.relative_to(root)
            sids: dict[tuple, int] = {}
            for fid, atoms in enumerate(read(path)):
                bar.update()
                problem = why_unfit(atoms, max_force)
                if problem or isinstance(atoms, Exception):
                    _note(left_out, str(problem), f"{name}, frame {fid}")
                    continue
                cell = () if path.suffix.lower() == ".traj" else tuple(atoms.cell.array.flat)
                system = (atoms.numbers.tobytes(), atoms.pbc.tobytes(), cell)
                if system not in sids:
                    sids[system], systems = systems, systems + 1
                frames.append(Frame(file, fid, sids[system]))
    return frames, left_out


def _note(left_out: dict, problem: str, where: str) -> None:
    """Problems that differ in numbers or in what stands in brackets have the same reason."""
    problem = " ".join(problem.split(";")[0].split())  # without a cure
    reason = re.sub(r"\d+(\.\d+)?", "#", problem.split(" (")[0])
    entry = left_out.setdefault(reason, {"count": 0, "examples": []})
    entry["count"] += 1
    if len(entry["examples"]) < EXAMPLES:
        more = problem[len(reason) :] if problem.startswith(reason) else f": {problem}"
        entry["examples"].append(where + more)


def entries(files: list[Path], frames: list[Frame]) -> Iterator[Data]:
    """Read the chosen frames, which are in the order of the files, once more."""
    for file, members in groupby(frames, key=lambda frame: frame.file):
        sids = {frame.fid: frame.sid for frame in members}
        for fid, atoms in enumerate(read(files[file])):
            if fid in sids and not isinstance(atoms, Exception):
                yield to_data(atoms, sids[fid], fid)


def convert(
    source: Path, output: Path, val: float = 0.1, test: float = 0.1, seed: int = 0,
    max_force: float | None = None,
) -> dict:  # fmt: skip
    """Write the splits to `output`/{train,val,test}; return what is in `output`/report.json.

    Args: those of the command line, which explains them.

    Raises:
        UserError: if one of them makes no sense, or no frame can be used.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise UserError(
            f"--val {val} and --test {test} are not possible; give fractions whose sum is below 1"
        )
    fractions = {"train": 1 - val - test, "val": val, "test": test}
    fractions = {split: share for split, share in fractions.items() if share > 0}
    files = find_files(source)
    report: dict[str, Any] = {
        "source": str(source), "val": val, "test": test, "seed": seed, "max_force": max_force,
    }  # fmt: skip
    with complete_folder(output, report) as folder:  # opened first: is `output` ours to replace?
        frames, left_out = index_frames(files, source, max_force or np.inf)
        if not frames:
            reason, entry = max(left_out.items(), key=lambda item: item[1]["count"])
            raise UserError(
                f"{source} holds no usable frame; most often ({entry['count']} times): {reason}; "
                f"first: {entry['examples'][0]}"
            )
        divided = len({frame.sid for frame in frames}) < len(fractions)
        parts = cut(frames, fractions) if divided else deal(frames, fractions, seed)
        report.update(systems_divided=divided, splits={}, left_out=left_out)
        for split, part in parts.items():
            bar = tqdm(entries(files, part), f"Writing {split}", len(part), unit=" frames")
            count = write_lmdb(folder / split, bar)
            systems = len({frame.sid for frame in part})
            report["splits"][split] = {"systems": systems, "frames": count}
    return report


def summary(report: dict, output: Path) -> str:
    """The report in a few lines for the terminal."""
    lines = [f"Wrote {output}:"]
    for split, size in report["splits"].items():
        lines.append(f"  {split:5} {size['frames']:>8} frames {size['systems']:>8} systems")
    if report["systems_divided"]:
        lines.append(
            "There are fewer systems than splits, so frames were divided, in contiguous blocks:\n"
            "errors on val and test will be optimistic, for train holds frames much like theirs."
        )
    lines.append("Left out:" if report["left_out"] else "Nothing was left out.")
    for reason, entry in sorted(report["left_out"].items(), key=lambda item: -item[1]["count"]):
        lines.append(f"  {entry['count']:>5}  {reason}; first: {entry['examples'][0]}")
    return "\n".join(lines)


@click.command(context_settings={"show_default": True})
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="folder to make")
@click.option("--val", type=float, default=0.1, help="fraction to validate on")
@click.option("--test", type=float, default=0.1, help="fraction to test on")
@click.option("--seed", type=click.IntRange(0), default=0, help="of the splits")
@click.option(
    "--max-force", type=click.FloatRange(0, min_open=True), show_default="no limit",
    help="leave out frames with a larger force on a free atom, eV/Angstrom",
)  # fmt: skip
def command(source: Path, output: Path, **options: Any) -> None:
    """Convert SOURCE, a file that ASE reads or a folder of such files, to OCP LMDBs.

    Takes the frames that have an energy and forces, and says what it leaves out, and why. A folder
    is searched with its subfolders for .traj, .xyz, .extxyz and .db files. Frames of one file with
    the same atoms, cell and periodicity are one system and go into one split together.
    """
    print(summary(convert(source, output, **options), output))
