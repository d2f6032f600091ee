"""OC20-shaped data that need no download: ocp-physmol data emt --output data/emt

The data have OC20's keys, splits, reference energies, tags and fixed atoms, not its chemistry.
"""

from collections import Counter
from functools import cache, partial
from itertools import chain, groupby
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc100, fcc110, fcc111, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from ase.optimize import LBFGS
from torch_geometric.data import Data
from tqdm import tqdm

from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import EVALUATION
from ocp_physmol.files import complete_folder
from ocp_physmol.option_types import COUNT, PATH, SEED

FACETS = {"111": fcc111, "100": fcc100, "110": fcc110}
METALS, UNSEEN_METALS = ("Cu", "Ag", "Ni", "Pd", "Pt"), ("Au", "Al")
ADSORBATES, UNSEEN_ADSORBATES = ("H", "O", "C", "CO", "OH", "CH"), ("N", "NO", "CH2", "NH")
SUBSURFACE, SURFACE, ADSORBATE = 0, 1, 2  # OC20's tags
LAYERS, FIXED_LAYERS = 4, 2
FMAX, MAX_STEPS = 0.03, 200  # eV/Angstrom
HEIGHT = 1.9  # Angstrom, of the adsorbate's lowest atom before it is relaxed

_tensor = partial(torch.as_tensor, dtype=torch.float32)


class System(NamedTuple):
    """An adsorbate on a slab, drawn at random with `seed` and `sid`."""

    split: str
    sid: int
    seed: int


def plan(relaxations: int, seed: int) -> list[System]:
    """Systems for `relaxations` to train on, and for a tenth of them in each of eight splits."""
    others = [f"{part}_{kind}" for kind in EVALUATION for part in ("val", "test")]
    sizes = {"train": relaxations, **dict.fromkeys(others, max(1, relaxations // 10))}
    return [System(split, sid, seed) for sid, split in enumerate(Counter(sizes).elements())]


def relax(system: System) -> list[Atoms]:
    """All frames of an adsorbate's relaxation on a slab, tagged, with fixed lower layers.

    `info` holds the system, the calculator adsorption energy (eV) and forces (eV/Angstrom).
    """
    rng = np.random.default_rng((system.seed, system.sid))
    metals = UNSEEN_METALS if system.split.endswith(("cat", "both")) else METALS
    formulas = UNSEEN_ADSORBATES if system.split.endswith(("ads", "both")) else ADSORBATES
    metal = str(rng.choice(metals))
    facet = str(rng.choice(list(FACETS)))
    size = (*map(int, rng.integers(2, 4, size=2)), LAYERS)
    formula = str(rng.choice(formulas))

    slab = clean_slab(metal, facet, size)
    atoms, adsorbate = slab.copy(), _adsorbate(formula, rng)
    site = rng.random() * slab.cell[0, :2] + rng.random() * slab.cell[1, :2]
    add_adsorbate(atoms, adsorbate, HEIGHT - adsorbate.positions[:, 2].min(), site)
    atoms.info = system._asdict()
    frames = _relax(atoms)
    gas = sum(gas_energies()[symbol] for symbol in adsorbate.symbols)
    for frame in frames:
        energy = frame.get_potential_energy() - slab.get_potential_energy() - gas
        frame.calc.results["energy"] = float(energy)
    return frames


@cache
def clean_slab(metal: str, facet: str, size: tuple[int, int, int]) -> Atoms:
    """A relaxed slab with tags, fixed lower layers and an energy."""
    slab = FACETS[facet](metal, size, vacuum=8.0, periodic=True)
    layer = slab.get_tags()  # ASE counts them from the top, beginning with 1
    slab.set_constraint(FixAtoms(mask=layer > LAYERS - FIXED_LAYERS))
    slab.set_tags(np.where(layer == 1, SURFACE, SUBSURFACE))
    return _relax(slab)[-1]


@cache
def gas_energies() -> dict[str, float]:
    """Energies of H, O, C and N as OC20 takes them, from H2, H2O, CO and N2."""
    relaxed = (_relax(molecule(name))[-1] for name in ("H2", "H2O", "CO", "N2"))
    h2, h2o, co, n2 = (atoms.get_potential_energy() for atoms in relaxed)
    oxygen = h2o - h2
    return {"H": h2 / 2, "O": oxygen, "C": co - oxygen, "N": n2 / 2}


def _relax(atoms: Atoms) -> list[Atoms]:
    """Relax in place; return copies of all frames, with EMT's energies and forces."""
    atoms.calc = EMT()
    frames = []
    for _ in LBFGS(atoms, logfile=None).irun(fmax=FMAX, steps=MAX_STEPS):  # type: ignore[arg-type]
        frame = atoms.copy()
        frame.calc = SinglePointCalculator(frame, **atoms.calc.results)
        frames.append(frame)
    return frames


def _adsorbate(formula: str, rng: np.random.Generator) -> Atoms:
    """Upright, its first atom lowest, turned about the vertical and tilted a little."""
    atoms = Atoms(formula)
    atoms.set_tags(ADSORBATE)
    first, *others = covalent_radii[atoms.numbers]
    for k, radius in enumerate(others):
        angle, lean = 2 * np.pi * k / len(others), float(len(others) > 1)
        direction = np.array([lean * np.cos(angle), lean * np.sin(angle), 0.8])
        atoms.positions[k + 1] = (first + radius) * direction / np.linalg.norm(direction)
    atoms.rotate(rng.normal(scale=15), "x")
    atoms.rotate(rng.uniform(0, 360), "z")
    return atoms


def s2ef_frames(frames: list[Atoms], number: int) -> list[Data]:
    """At most `number` frames of a relaxation, evenly spread, as OC20's S2EF data hold them."""
    spread = np.linspace(0, len(frames) - 1, min(number, len(frames))).round().astype(int)
    entries = []
    for fid in np.unique(spread).tolist():
        energy = frames[fid].get_potential_energy()
        forces = _tensor(frames[fid].get_forces(apply_constraint=False))
        entries.append(_data(frames[fid], fid=fid, y=energy, force=forces))
    return entries


def is2re_entry(frames: list[Atoms]) -> Data:
    """The initial structure with what it relaxes to, as OC20's IS2RE and IS2RS data hold it."""
    y_init, y_relaxed = frames[0].get_potential_energy(), frames[-1].get_potential_energy()
    relaxed = _tensor(frames[-1].positions)
    return _data(frames[0], y_init=y_init, y_relaxed=y_relaxed, pos_relaxed=relaxed)


def _data(atoms: Atoms, **labels: float | torch.Tensor) -> Data:
    fixed = torch.zeros(len(atoms))
    fixed[atoms.constraints[0].index] = 1
    return Data(
        pos=_tensor(atoms.positions),
        cell=_tensor(atoms.cell.array)[None],
        atomic_numbers=_tensor(atoms.numbers),
        natoms=len(atoms),
        tags=torch.as_tensor(atoms.get_tags()),
        fixed=fixed,
        sid=atoms.info["sid"],
        **labels,
    )


def write(trajectories: list[list[Atoms]], output: Path, frames: int, report: dict) -> None:
    """Write both tasks of trajectories that are in the order of their splits, and the report."""
    with complete_folder(output, report) as folder:
        for task, s2ef in (("s2ef", True), ("is2re", False)):
            (folder / task).mkdir()
            for split, members in groupby(trajectories, key=lambda frames: frames[0].info["split"]):
                parts = (s2ef_frames(t, frames) if s2ef else [is2re_entry(t)] for t in members)
                size = write_lmdb(folder / task / split, chain.from_iterable(parts))
                report["entries"][f"{task}/{split}"] = size


@click.option("--output", type=PATH, required=True, help="folder to make")
@click.option(
    "--relaxations", type=COUNT, default=300,
    help="to train on; each of the eight splits val_* and test_* gets a tenth of it",
)  # fmt: skip
@click.option("--frames", type=COUNT, default=20, help="at most, of a relaxation")
@click.option("--seed", type=SEED, default=0, help="of everything drawn")
@click.option("--workers", type=COUNT, default=2, help="processes")
def make(
    output: Path, relaxations: int = 300, frames: int = 20, seed: int = 0, workers: int = 2
) -> None:
    """Relax adsorbates on slabs with ASE's effective medium theory, as data in OC20's shape.

    EMT takes milliseconds where density functional theory takes hours, but knows little of H, C, N
    and O: the data serve to try every step of the program, and are no benchmark.
    """
    systems = plan(relaxations, seed)
    with get_context("spawn").Pool(workers) as pool:
        relaxed = pool.imap(relax, systems, chunksize=4)
        trajectories = list(tqdm(relaxed, "Relaxing", len(systems), unit=" systems", mininterval=1))
    largest = [np.linalg.norm(t[-1].get_forces(), axis=1).max() for t in trajectories]
    converged = int(sum(force < FMAX for force in largest))
    report: dict[str, Any] = {
        "source": "ASE's EMT, no benchmark", "seed": seed, "relaxations": len(systems),
        "converged": converged, "entries": {},
    }  # fmt: skip
    write(trajectories, output, frames, report)
    total = sum(size for name, size in report["entries"].items() if name.startswith("s2ef"))
    print(f"Wrote {total} frames of {len(systems)} relaxations ({converged} converged) to {output}")


command = click.command(context_settings={"show_default": True})(make)
