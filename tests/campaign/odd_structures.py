"""Structures and labels that are unlike what a model expects, in files that are well formed."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk, fcc111, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write
from campaign.case import Case


def ethanol(seed: int) -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=seed)
    return atoms


def labelled(atoms: Atoms, energy: float = -1.0, force: float = 0.1) -> Atoms:
    forces = np.full((len(atoms), 3), force)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms


def moved(atoms: Atoms, atom: int, place) -> Atoms:
    atoms.positions[atom] = place
    return atoms


def cell(vectors, pbc=True) -> Atoms:
    atoms = ethanol(0)
    atoms.set_cell(vectors)
    atoms.pbc = pbc
    return atoms


def many(number: int) -> Atoms:
    side = round(number ** (1 / 3))
    return bulk("Cu", cubic=True).repeat((side // 2 + 1,) * 3)[:number]


# structures, and whether they must be refused
STRUCTURES: dict[str, tuple[Callable[[], Atoms], bool | None]] = {
    "one atom": (lambda: Atoms("H"), None),
    "two atoms": (lambda: molecule("H2"), None),
    "5,000 atoms": (lambda: many(5000), None),
    "no atoms": (lambda: Atoms(), True),
    "coinciding atoms": (lambda: moved(ethanol(0), 1, ethanol(0).positions[0]), True),
    "a millionth of an Angstrom": (
        lambda: moved(ethanol(0), 1, ethanol(0).positions[0] + 1e-6), True
    ),
    "NaN position": (lambda: moved(ethanol(0), 2, [np.nan, 0, 0]), True),
    "infinite position": (lambda: moved(ethanol(0), 2, [np.inf, 0, 0]), True),
    "1e30 position": (lambda: moved(ethanol(0), 2, [1e30, 0, 0]), None),
    "far atom": (lambda: moved(ethanol(0), 2, [1e6, 0, 0]), None),
    "unknown element": (lambda: Atoms("X2", [[0, 0, 0], [0, 0, 1]]), True),
    "heaviest element": (lambda: Atoms("Og2", [[0, 0, 0], [0, 0, 3]]), None),
    "flat cell": (lambda: cell([10, 10, 0]), None),
    "skewed cell": (lambda: cell([[10, 0, 0], [9.99, 0.5, 0], [0, 0, 10]]), None),
    "left-handed cell": (lambda: cell([[0, 10, 0], [10, 0, 0], [0, 0, 10]]), None),
    "NaN cell": (lambda: cell([np.nan, 10, 10]), True),
    "thin cell": (lambda: cell([0.5, 10, 10]), None),
    "atoms far outside the cell": (lambda: moved(cell([8, 8, 8]), 0, [800, 0, 0]), None),
    "one periodic direction": (lambda: cell([8, 8, 8], [True, False, False]), None),
    "periodic without a cell": (lambda: cell([0, 0, 0]), None),
    "slab": (lambda: fcc111("Cu", (2, 2, 3), vacuum=8), None),
    "isolated atoms": (lambda: Atoms("H4", np.diag([0, 30, 60, 90])[:, :3] * 1.0), None),
}  # fmt: skip
LABELS: dict[str, tuple[dict, bool | None]] = {
    "energy NaN": ({"energy": np.nan}, True),
    "energy infinite": ({"energy": np.inf}, True),
    "energy 1e30": ({"energy": 1e30}, None),
    "energy zero": ({"energy": 0.0}, None),
    "force NaN": ({"force": np.nan}, True),
    "force infinite": ({"force": -np.inf}, True),
    "force 1e30": ({"force": 1e30}, None),
    "force zero": ({"force": 0.0}, None),
}
FORMATS = ("extxyz", "traj", "db", "json")


def cases(data: dict[str, Path], folder: Path) -> Iterator[Case]:
    folder.mkdir()
    odd = {name: (partial(_structure, make), r) for name, (make, r) in STRUCTURES.items()}
    odd |= {name: (partial(_with_labels, **x), refused) for name, (x, refused) in LABELS.items()}
    for place in ("first", "last", "all"):
        for name, (make, refused) in odd.items():
            must = refused if place == "all" else None  # else the others are used, and it is named
            yield from _of_frames(f"{name}, {place}", partial(_among, make, place), folder, must)
    for form in FORMATS:
        yield from _of_frames(f"good frames as {form}", _good, folder, False, form)
        yield from _of_frames(f"no labels as {form}", _bare, folder, True, form)
    yield from _of_frames("the same frame 30 times", lambda: _good(1) * 30, folder)
    for number in (1, 2):
        yield from _of_frames(f"{number} frames", partial(_good, number), folder)


def _structure(make: Callable[[], Atoms]) -> Atoms:
    return labelled(make())


def _with_labels(**labels: float) -> Atoms:
    return labelled(ethanol(0), **labels)


def _bare() -> list[Atoms]:
    return [ethanol(seed) for seed in range(30)]


def _good(number: int = 30) -> list[Atoms]:
    return [labelled(ethanol(seed)) for seed in range(number)]


def _among(odd: Callable[[], Atoms], place: str) -> list[Atoms]:
    """30 frames, one or all of which are odd."""
    frames = [labelled(ethanol(seed), -1.0 + 0.01 * seed) for seed in range(30)]
    for index in {"first": [0], "last": [29], "all": range(30)}[place]:
        frames[index] = odd()
    return frames


def _of_frames(
    name: str,
    frames: Callable[[], list[Atoms]],
    folder: Path,
    refused: bool | None = None,
    form: str = "extxyz",
) -> Iterator[Case]:
    own = folder / name.replace(" ", "_")
    file = own / f"frames.{form}"

    def prepare() -> None:
        own.mkdir(exist_ok=True)
        write(file, frames())

    train = [
        "train", str(file), "--epochs", "1", "--cpu", "--output", str(own / "run"),
        "--model.hidden_channels=16", "--model.num_layers=1", "--model.attention_channels=8",
        "--model.vector_channels=8", "--optim.batch_size=4",
    ]  # fmt: skip
    yield Case(
        "structures and labels",
        f"train, {name}",
        ["-m", "ocp_physmol", *train],
        refused,
        prepare=prepare,
    )
    files = ["data", "files", str(file), "--output", str(own / "data")]
    yield Case(
        "structures and labels",
        f"data, {name}",
        ["-m", "ocp_physmol", *files],
        refused,
        prepare=prepare,
    )
