"""Forces that pull pushed molecules back, as labels: ocp-physmol data curvature --help"""

import json
import shutil
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from operator import methodcaller
from pathlib import Path

import click
import numpy as np
import torch
from torch_geometric.data import Data
from tqdm import tqdm

from ocp_physmol.calculators.pool import KNOWN, CalculatorPool, Refusal, Source
from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.errors import UserError
from ocp_physmol.files import REPORT, checksum, complete_folder, resumable_folder
from ocp_physmol.harmonic import displaced, hessian
from ocp_physmol.option_types import COUNT, PATH, POSITIVE, SEED
from ocp_physmol.pushes.draw import obstacle, pushed_positions
from ocp_physmol.pushes.elastic_network import ElasticNetwork
from ocp_physmol.pushes.stretches import Curved, Stretches

LABELS = ("pushed_", "restoring_forces", "stretch_")  # how the keys of what is added begin
PUSHES = 8  # of each training molecule, where a loss compares with stored forces
PART = 500  # molecules between two moments at which an interrupted command goes on


def content_of(src: Path) -> list[str]:
    """Checksums of all LMDBs of a data set."""
    return [checksum(path) for path in sorted(src.glob("*/*.lmdb"))]


def is_made(src: Path, dst: Path, teacher: str, pushes: int) -> bool:
    """Whether `dst` has a teacher's labels for the data set `src` as it is now, on that many
    pushes or more."""
    report = json.loads((dst / REPORT).read_text()) if (dst / REPORT).is_file() else {}
    is_current = report.get("teacher") == teacher and report.get("content") == content_of(src)
    return is_current and report["pushes"] >= pushes


def splits_of(src: Path) -> dict[str, PhysMolLmdbDataset]:
    """The data sets in a folder: one for each folder in it that holds LMDBs, by its name."""
    names = sorted(path.parent.name for path in src.glob("*/*.lmdb"))
    if not names:
        raise UserError(f"{src} holds no folders with *.lmdb files; give that of a whole data set")
    return {name: PhysMolLmdbDataset({"src": str(src / name)}) for name in dict.fromkeys(names)}


class Labeller:
    """Adds a teacher's labels to molecules at their minima.

    An entry gets `NAME_energy` [1] (eV) and `NAME_forces` [n, 3] (eV/Angstrom) of the teacher NAME
    at `NAME_pos`, its own positions. With P pushes it also gets `pushed_pos` [n, P, 3] (Angstrom),
    the teacher's `pushed_NAME_energy` [1, P] and `pushed_NAME_forces` [n, P, 3] there, and
    `restoring_forces` [n, P, 3], which are the latter less `NAME_forces`, so that they are zero at
    the minimum of the data. With `stretches`, it gets the springs of its bonds (`of_bonds`).
    """

    def __init__(
        self,
        pool: CalculatorPool,
        name: str,
        noise: float,
        seed: int,
        stretches: Stretches | None = None,
    ) -> None:
        self.pool, self.name, self.noise, self.seed = pool, name, noise, seed
        self.stretches = stretches

    def label(
        self, entries: list[Data], indices: list[int], pushes: int, refused: list[str]
    ) -> Iterator[Data]:
        """The entries with labels. Those that the teacher refuses are named in `refused`.

        A UserError if one is no free molecule.
        """
        for entry in entries:
            if unfit := obstacle(entry):
                name = identifier(entry.sid)
                raise UserError(f"{name} has {unfit}; curvature labels are for free molecules")
            for key in filter(methodcaller("startswith", LABELS), entry.keys()):
                del entry[key]  # of another teacher
        drawn = self._draw(entries, indices, pushes)
        placed = [[e.pos.numpy(), *pushed] for e, pushed in zip(entries, drawn)]
        answers = self.pool.evaluate(
            {"numbers": entry.atomic_numbers.int().numpy(), "positions": pos.astype(float)}
            for entry, positions in zip(entries, placed) for pos in positions
        )  # fmt: skip
        for entry, positions in zip(entries, placed):
            at_minimum, *at_pushes = islice(answers, len(positions))
            usable = [k for k, answer in enumerate(at_pushes) if not isinstance(answer, Refusal)]
            if isinstance(at_minimum, Refusal) or (at_pushes and not usable):
                reason = at_minimum if isinstance(at_minimum, Refusal) else at_pushes[0]
                refused.append(f"{identifier(entry.sid)} ({reason})")
                continue
            energy, forces = at_minimum
            entry[f"{self.name}_pos"] = entry.pos.clone()
            entry[f"{self.name}_energy"] = torch.tensor([energy], dtype=torch.float64)
            entry[f"{self.name}_forces"] = _tensor(forces)
            if usable:  # in the place of a refused push stands another of the same molecule
                taken = [usable[k % len(usable)] for k in range(pushes)]
                pushed_forces = np.stack([at_pushes[k][1] for k in taken], axis=1)
                energies = [[at_pushes[k][0] for k in taken]]
                entry[f"pushed_{self.name}_energy"] = torch.tensor(energies, dtype=torch.float64)
                entry.pushed_pos = _tensor(np.stack([positions[1:][k] for k in taken], axis=1))
                entry[f"pushed_{self.name}_forces"] = _tensor(pushed_forces)
                entry.restoring_forces = _tensor(pushed_forces - forces[:, None])
            if self.stretches is not None:
                numbers, minimum = entry.atomic_numbers.numpy(), entry.pos.numpy().astype(float)
                entry.update(self.stretches.of_bonds(numbers, minimum))
            yield entry

    def _draw(self, entries: list[Data], indices: list[int], pushes: int) -> list[list]:
        """The pushed positions [n, 3] of each entry, the same in any part of the data."""
        drawn: list[list] = [[] for _ in entries]
        if pushes == 0:
            return drawn
        pos, numbers = (torch.cat([e[key] for e in entries]) for key in ("pos", "atomic_numbers"))
        natoms = torch.tensor([len(entry.pos) for entry in entries])
        network = ElasticNetwork(pos, numbers, natoms)
        for push in range(pushes):
            generators = [np.random.default_rng([self.seed, push, index]) for index in indices]
            positions = pushed_positions(network, self.noise, generators)
            for own, pos, n in zip(drawn, positions, natoms.tolist()):
                own.append(pos[:n].numpy())
        return drawn


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)


def labelled_parts(
    labeller: Labeller, data: PhysMolLmdbDataset, pushes: int, folder: Path, bar: tqdm
) -> list[Path]:
    """Label a data set in parts, each a folder below `folder`; those that are there stay."""
    parts = []
    for first in range(0, len(data), PART):
        indices = list(range(first, min(first + PART, len(data))))
        part = folder / str(first)
        if not part.is_dir():
            report: dict = {"refused": [], "labelled": 0}
            with complete_folder(part, report) as partial:
                entries = [data[index] for index in indices]
                labelled = labeller.label(entries, indices, pushes, report["refused"])
                report["labelled"] = write_lmdb(partial / "lmdb", labelled)
        bar.update(len(indices))
        parts.append(part)
    return parts


def curved_molecules(
    pool: CalculatorPool, data: PhysMolLmdbDataset, molecules: int, seed: int
) -> list[Curved]:
    """Some random molecules with a calculator's second derivatives; not those that it refuses."""
    order = np.random.default_rng(seed).permutation(len(data))[:molecules]
    curved = []
    for index in tqdm(order, "Hessians", unit=" molecules", mininterval=1):
        entry = data[int(index)]
        numbers, positions = entry.atomic_numbers.numpy(), entry.pos.numpy().astype(float)
        copies = displaced(positions)
        answers = list(pool.evaluate({"numbers": numbers, "positions": x} for x in copies))
        if not any(isinstance(answer, Refusal) for answer in answers):
            curvature = hessian(np.array([forces for _, forces in answers]))
            curved.append(Curved(numbers, positions, curvature, entry.frequencies.numpy()))
    return curved


def stretches_of(
    pool: CalculatorPool, data: PhysMolLmdbDataset | None, molecules: int, seed: int
) -> Stretches | None:
    """Fit `Stretches` to the frequencies of some random molecules; None if the data have none."""
    if data is None or "frequencies" not in data[0] or molecules == 0:
        return None
    curved = curved_molecules(pool, data, molecules, seed)
    return Stretches.fitted(curved) if curved else None


@click.argument("src", type=PATH)
@click.argument("dst", type=PATH)
@click.option(
    "--teacher", default="gfn2", metavar="NAME",
    help="Whose forces: gfn2 (GFN2-xTB, of the extra xtb), mmff94, or MODULE:NAME of any "
    "calculator of ASE that needs no arguments.",
)  # fmt: skip
@click.option(
    "--pushes", type=click.IntRange(0), default=PUSHES, help="Of each molecule of the split train."
)
@click.option(
    "--noise", type=POSITIVE, default=0.12,
    help="Largest root mean square of a push (Å).",
)  # fmt: skip
@click.option(
    "--frequencies", type=click.IntRange(0), default=50,
    help="Correct the stiffness of bonds to the frequencies of so many molecules, if the data have "
    "frequencies.",
)  # fmt: skip
@click.option("--seed", type=SEED, default=0, help="Of all that is random.")
@click.option("--processes", type=COUNT, show_default="all cores", help="At the same time.")
def make(
    src: Path,
    dst: Path,
    teacher: str = "gfn2",
    pushes: int = PUSHES,
    noise: float = 0.12,
    frequencies: int = 50,
    seed: int = 0,
    processes: int | None = None,
) -> None:
    """Copy the data set SRC to DST, with the forces of a teacher on pushed molecules.

    SRC has a folder for each split. Its molecules are free and at their minima. The loss
    restoring_force uses the labels with teacher: data, and a model with prior: gfn2 those of gfn2,
    which needs no pushes. Started again, the command goes on where it was.

    \b
    ocp-physmol data curvature data/quickstart data/quickstart-gfn2
    """
    source = Source.named(teacher)
    name = teacher if teacher in KNOWN else "teacher"
    splits = splits_of(src)
    dst = dst.resolve()
    if dst in (src.resolve(), *src.resolve().parents):
        raise UserError(f"{dst} holds {src}, which it would replace; name another folder")
    plan = {
        "src": str(src), "content": content_of(src),
        "teacher": teacher, "pushes": pushes, "noise": noise,
        "frequencies": frequencies, "seed": seed,
    }  # fmt: skip
    size = sum(map(len, splits.values()))
    refused: list[str] = []
    with resumable_folder(dst, plan) as folder, CalculatorPool(source, processes) as pool:
        stretches = stretches_of(pool, splits.get("train"), frequencies, seed)
        labeller = Labeller(pool, name, noise, seed, stretches)
        with tqdm(desc="Labelling", total=size, unit=" molecules", mininterval=1) as bar:
            for split, data in splits.items():
                below = folder / "parts" / split
                parts = labelled_parts(labeller, data, pushes * (split == "train"), below, bar)
                refused += chain.from_iterable(_refused(part) for part in parts)
                opened = [_open(part) for part in parts]
                if not any(map(len, opened)):
                    raise UserError(f"{teacher} refuses all of {src / split}: {refused[-1]}")
                shutil.rmtree(folder / split, ignore_errors=True)
                write_lmdb(folder / split, chain.from_iterable(opened))
        shutil.rmtree(folder / "parts")
    click.echo(f"Wrote {size - len(refused)} molecules to {dst}, with {teacher}'s forces")
    if refused:
        click.echo(f"{len(refused)} are left out, which {teacher} refuses: {'; '.join(refused)}")


def _open(part: Path) -> Sequence[Data]:
    """The labelled molecules of a part, of which there may be none."""
    report = json.loads((part / REPORT).read_text())
    return PhysMolLmdbDataset({"src": str(part / "lmdb")}) if report["labelled"] else []


def _refused(part: Path) -> list[str]:
    return json.loads((part / REPORT).read_text())["refused"]


command = click.command("curvature", context_settings={"show_default": True})(make)
