"""Files that ASE reads, as OCP LMDBs: ocp-physmol data files --help"""

import os
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import count
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

from ocp_physmol.datasets.entry_check import find_problem
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import cut, deal
from ocp_physmol.errors import UserError
from ocp_physmol.files import checksum, complete_folder
from ocp_physmol.option_types import PATH, POSITIVE, SEED, Number

SUFFIXES = (".traj", ".xyz", ".extxyz", ".db")
BOX = 40.0  # Angstrom; length of the lattice vectors that a structure lacks, none of them a period
FLAT = 1e-3  # Angstrom; no cell is that thin
EXAMPLES = 3  # of the frames that are left out for one reason
CONVERTER = AtomsToGraphs(r_edges=False, r_fixed=True, r_pbc=True)


def find_files(sources: Sequence[Path]) -> dict[str, Path]:
    """The sources that are files, and all files of ASE's below those that are folders, by name.

    A name is short where no other file has it. A file is taken once. A source without any file is a
    UserError.
    """
    files: dict[str, Path] = {}
    known: set[str] = set()  # files, whatever links lead to them
    for source in sources:
        found = [source]
        if not source.is_file():
            below = source.rglob("*")
            found = sorted(path for path in below if path.suffix.lower() in SUFFIXES)
        if not found:
            lack = f"holds no {', '.join(SUFFIXES)} file" if source.is_dir() else "does not exist"
            raise UserError(
                f"{source} {lack}; give a folder or a file of any format that ASE reads"
            )
        for path in found:
            name = path.name if path == source else str(path.relative_to(source))
            if (real := os.path.realpath(path)) not in known:  # also of links in a circle
                files[name if name not in files else str(path)] = path
                known.add(real)
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


def to_data(atoms: Atoms | Exception, max_force: float = np.inf) -> Data:
    """An entry with OC20's S2EF keys but `sid` and `fid`, and with `pbc`; a UserError if unfit."""
    if isinstance(atoms, Exception):
        raise UserError(f"cannot be read from here on ({type(atoms).__name__}: {atoms})")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise UserError("NaN or infinity in positions or cell")
    if np.linalg.matrix_rank(atoms.cell.array, tol=FLAT) < atoms.cell.any(1).sum():
        raise UserError("the cell is flat")
    sites = atoms.info.get("occupancy")  # as ASE reads it from CIF
    if isinstance(sites, dict) and any(
        share < 1 for species in sites.values() for share in species.values()
    ):
        raise UserError("partially occupied sites in info['occupancy']")
    energy = _label("energy", atoms.get_potential_energy, (), atoms.info)
    forces = _label("forces", atoms.get_forces, atoms.positions.shape, atoms.arrays)

    bare = atoms.copy()
    given = bare.cell.any(1)
    bare.pbc &= given  # a zero vector is no period
    bare.cell = bare.cell.complete() * np.where(given, 1.0, BOX)[:, None]
    data = CONVERTER.convert(bare)
    data.pbc = data.pbc[None]  # [1, 3]: a batch stacks them
    # total energies reach 1e4 eV: only double precision resolves less than a meV of them
    data.y = torch.tensor([float(energy)], dtype=torch.float64)
    data.force = torch.tensor(forces, dtype=torch.float32)
    if problem := find_problem(data, []):
        raise UserError(problem)
    if data.fixed.all():
        raise UserError("no free atom")
    largest = float((data.force.norm(dim=1) * (data.fixed == 0)).max())
    if largest > max_force:
        raise UserError(f"a force of {largest:.1f} eV/Angstrom, above --max-force")
    return data


def differing_file(report: dict, sources: Sequence[Path]) -> str | None:
    """The name of a file that is not as it was when `report` was written, or came or went."""
    before = report.get("files", {})
    now = {name: checksum(path) for name, path in find_files(sources).items()}
    return next((n for n in {**before, **now} if before.get(n) != now.get(n)), None)


def _label(
    name: str, computed: Callable, shape: tuple[int, ...], others: Collection[str]
) -> np.ndarray:
    """Energy [] (eV) or forces [n, 3] (eV/Angstrom), no constraint applied.

    Names of `others` that look like the label are in the message of the UserError for none.
    """
    try:
        label = np.asarray(computed(apply_constraint=False), dtype=np.float64)
    # no calculator, not this property, or no number
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as e:
        found = [other for other in others if name[:5] in str(other).lower()]
        unit = "total energy in eV" if name == "energy" else "forces in eV/Angstrom"
        hint = f" but '{found[0]}', to be called '{name}' if it is the {unit}" if found else ""
        raise UserError(f"no {name}{hint}") from e
    if label.shape != shape:
        raise UserError(f"{name} of shape {list(label.shape)}")
    if not np.isfinite(label).all():
        raise UserError(f"NaN or infinity in {name}")
    return label


def usable_frames(
    files: dict[str, Path], max_force: float, left_out: dict[str, dict],
    relaxations: bool = False,
) -> Iterator[Data]:  # fmt: skip
    """The frames that can be trained on, numbered by `sid` and, in their file, by `fid`.

    Number and first examples of the other frames go to `left_out`, by reason. Of `relaxations`, the
    energies are relative to the last usable frame of each.
    """
    numbers = count()
    for name, path in files.items():
        same = ["atomic_numbers", "pbc"]  # in all frames of a system
        if path.suffix.lower() != ".traj" and not relaxations:  # in which the cell may change
            same.append("cell")
        frames = _frames_of(path, name, same, numbers, max_force, left_out)
        yield from _relative_to_last(frames) if relaxations else frames


def _frames_of(
    path: Path, name: str, same: list[str], numbers: count, max_force: float, left_out: dict
) -> Iterator[Data]:
    """The usable frames of a file; those that agree in the keys `same` are one system."""
    sids: dict[bytes, int] = defaultdict(numbers.__next__)
    for fid, atoms in enumerate(read(path)):
        try:
            data = to_data(atoms, max_force)
        except UserError as e:
            _note(left_out, str(e), f"{name}, frame {fid}")
            continue
        system = torch.cat([data[key].flatten() for key in same]) + 0.0  # no -0.0
        data.sid, data.fid = sids[system.numpy().tobytes()], fid
        yield data


def _relative_to_last(frames: Iterable[Data]) -> Iterator[Data]:
    """The frames of a file, system by system, less the energy of the last frame of each."""
    systems: dict[int, list[Data]] = defaultdict(list)
    for frame in frames:
        systems[frame.sid].append(frame)
    for members in systems.values():
        last = members[-1].y.clone()
        for frame in members:
            frame.y = frame.y - last
            yield frame


def _note(left_out: dict, problem: str, where: str) -> None:
    """Problems that differ in numbers or in what stands in brackets have the same reason."""
    problem = " ".join(problem.split(";")[0].split())  # without a cure
    reason = re.sub(r"\d+(\.\d+)?", "#", problem.split(" (")[0])
    entry = left_out.setdefault(reason, {"count": 0, "examples": []})
    entry["count"] += 1
    if len(entry["examples"]) < EXAMPLES:
        more = problem[len(reason) :] if problem.startswith(reason) else f": {problem}"
        entry["examples"].append(where + more)


@click.argument("sources", metavar="SOURCE...", type=PATH, nargs=-1, required=True)
@click.option("--output", type=PATH, required=True, help="folder to make")
@click.option("--val", type=Number(), default=0.1, help="fraction to validate on")
@click.option("--test", type=Number(), default=0.1, help="fraction to test on")
@click.option("--seed", type=SEED, default=0, help="of the splits")
@click.option(
    "--max-force", type=POSITIVE, show_default="no limit",
    help="leave out frames with a larger force on a free atom, eV/Angstrom",
)  # fmt: skip
@click.option(
    "--relaxations", is_flag=True,
    help="take off each energy that of the last frame of the same relaxation; frames of one file "
    "with the same atoms are one relaxation",
)  # fmt: skip
def convert(
    sources: Sequence[Path], output: Path, val: float = 0.1, test: float = 0.1, seed: int = 0,
    max_force: float | None = None, relaxations: bool = False,
) -> dict:  # fmt: skip
    """Convert each SOURCE, a file that ASE reads or a folder of such files, to OCP LMDBs.

    Takes the frames that have an energy and forces, and says what it leaves out, and why. A folder
    is searched with its subfolders for .traj, .xyz, .extxyz and .db files. Frames of one file with
    the same atoms, cell and periodicity are one system and go into one split together. With
    --relaxations the cell may differ, as it may in every .traj file.
    """
    if not (val >= 0 and test >= 0 and val + test < 1):
        raise UserError(
            f"--val {val} and --test {test} are not possible; give fractions whose sum is below 1"
        )
    fractions = {"train": 1 - val - test, "val": val, "test": test}
    fractions = {split: share for split, share in fractions.items() if share > 0}
    files = find_files(sources)
    left_out: dict[str, dict] = {}
    report: dict[str, Any] = {
        "source": ", ".join(map(str, sources)),
        "files": {name: checksum(path) for name, path in files.items()},
        **{"val": val, "test": test, "seed": seed},
        **{"max_force": max_force, "relaxations": relaxations},
    }
    with complete_folder(output, report) as folder:  # opened first: is `output` ours to replace?
        usable = usable_frames(files, max_force or np.inf, left_out, relaxations)
        sids: list[int] = []  # of the usable frames

        def reading() -> Iterator[Data]:
            for frame in tqdm(usable, "Reading", unit=" frames", mininterval=1):
                sids.append(frame.sid)
                yield frame

        if not write_lmdb(folder / "all", reading()):
            reason, entry = max(left_out.items(), key=lambda item: item[1]["count"])
            raise UserError(
                f"{report['source']} holds no usable frame; most often ({entry['count']} times): "
                f"{reason}; first: {entry['examples'][0]}"
            )
        frames = PhysMolLmdbDataset({"src": str(folder / "all/data.lmdb")})
        divided = len(set(sids)) < len(fractions)
        parts = cut(len(sids), fractions) if divided else deal(sids, fractions, seed)
        report.update(systems_divided=divided, splits={}, left_out=left_out)
        for split, part in parts.items():
            bar = tqdm(part, f"Writing {split}", unit=" frames")
            report["splits"][split] = {
                "systems": len({sids[k] for k in part}),
                "frames": write_lmdb(folder / split, (frames[k] for k in bar)),
            }
        shutil.rmtree(folder / "all")
    print(f"Wrote {output}:\n{summary(report)}")
    return report


def summary(report: dict) -> str:
    """The report in a few lines for the terminal."""
    lines = [
        f"  {split:5} {size['frames']:>8} frames {size['systems']:>8} systems"
        for split, size in report["splits"].items()
    ]
    if report["systems_divided"]:
        lines.append(
            "There are fewer systems than splits, so frames were divided, in contiguous blocks:\n"
            "errors on val and test will be optimistic, for train holds frames much like theirs."
        )
    lines.append("Left out:" if report["left_out"] else "Nothing was left out.")
    for reason, entry in sorted(report["left_out"].items(), key=lambda item: -item[1]["count"]):
        lines.append(f"  {entry['count']:>5}  {reason}; first: {entry['examples'][0]}")
    return "\n".join(lines)


command = click.command(context_settings={"show_default": True})(convert)
