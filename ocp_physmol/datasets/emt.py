"""OC20-shaped data that need no download: ocp-physmol data emt --output data/emt

Adsorbates on fcc slabs, relaxed and labelled with ASE's effective medium theory (EMT). It takes
milliseconds where density functional theory takes hours, but knows little of H, C, N and O. The
data have the form of OC20's (keys, splits, reference energies, tags, fixed atoms), not its
chemistry: they serve to try every step of the program, and are no benchmark.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
from ase import Atoms
from ase.build import add_adsorbate, fcc100, fcc110, fcc111, molecule
from ase.calculators.emt import EMT
from ase.constraints import FixAtoms
from ase.data import covalent_radii
from ase.optimize import LBFGS
from torch_geometric.data import Data
from tqdm import tqdm

from ocp_physmol.datasets.lmdb_writer import write_lmdb
from ocp_physmol.datasets.splits import EVALUATION
from ocp_physmol.files import complete_folder

FACETS = {"111": fcc111, "100": fcc100, "110": fcc110}
METALS, UNSEEN_METALS = ("Cu", "Ag", "Ni", "Pd", "Pt"), ("Au", "Al")
ADSORBATES, UNSEEN_ADSORBATES = ("H", "O", "C", "CO", "OH", "CH"), ("N", "NO", "CH2", "NH")
SUBSURFACE, SURFACE, ADSORBATE = 0, 1, 2  # OC20's tags
LAYERS, FIXED_LAYERS = 4, 2
FMAX, MAX_STEPS = 0.03, 200  # eV/Angstrom
HEIGHT = 1.9  # Angstrom, of the adsorbate's lowest atom before it is relaxed


@dataclass(frozen=True)
class System:
    """One relaxation, drawn from its own seed."""

    split: str
    sid: int
    seed: tuple[int, int]


@dataclass
class Trajectory:
    """A relaxation's frames; energies in eV, references taken off."""

    system: System
    atoms: Atoms  # the first frame, tagged, its lower layers fixed
    positions: np.ndarray  # [frames, n, 3]
    energies: np.ndarray  # [frames]
    forces: np.ndarray  # [frames, n, 3]


def plan(relaxations: int, seed: int) -> list[System]:
    """Systems by split: so many to train on, and a tenth of it for each of the eight others."""
    sizes = {"train": relaxations}
    for kind in EVALUATION:
        sizes[f"val_{kind}"] = sizes[f"test_{kind}"] = max(1, relaxations // 10)
    names = [split for split, size in sizes.items() for _ in range(size)]
    return [System(split, sid, (seed, sid)) for sid, split in enumerate(names)]


def relax(system: System) -> Trajectory:
    """Put an adsorbate on a slab, relax it, and keep every frame."""
    rng = np.random.default_rng(system.seed)
    unseen_metal = system.split.endswith(("cat", "both"))
    unseen_adsorbate = system.split.endswith(("ads", "both"))
    metal = str(rng.choice(UNSEEN_METALS if unseen_metal else METALS))
    facet = str(rng.choice(list(FACETS)))
    size = (*map(int, rng.integers(2, 4, size=2)), LAYERS)
    adsorbate = str(rng.choice(UNSEEN_ADSORBATES if unseen_adsorbate else ADSORBATES))

    slab, slab_energy = clean_slab(metal, facet, size)
    atoms = slab.copy()
    species = _adsorbate(adsorbate, rng)
    site = rng.random() * slab.cell[0, :2] + rng.random() * slab.cell[1, :2]
    add_adsorbate(atoms, species, HEIGHT - species.positions[:, 2].min(), site)
    atoms.set_tags([*slab.get_tags(), *[ADSORBATE] * len(species)])
    atoms.calc = EMT()

    frames = []
    optimizer = LBFGS(atoms, logfile=None)  # type: ignore[arg-type]
    optimizer.attach(lambda: frames.append((atoms.get_positions(), atoms.get_potential_energy(),
                                            atoms.get_forces(apply_constraint=False))))  # fmt: skip
    first = atoms.copy()
    optimizer.run(fmax=FMAX, steps=MAX_STEPS)
    positions, energies, forces = map(np.array, zip(*frames))
    gas = sum(gas_energies()[symbol] for symbol in species.get_chemical_symbols())
    return Trajectory(system, first, positions, energies - slab_energy - gas, forces)


@cache
def clean_slab(metal: str, facet: str, size: tuple[int, int, int]) -> tuple[Atoms, float]:
    """A relaxed slab with tags and fixed lower layers, and its energy."""
    slab = FACETS[facet](metal, size, vacuum=8.0, periodic=True)
    layer = slab.get_tags()  # ASE counts them from the top, beginning with 1
    slab.set_constraint(FixAtoms(mask=layer > LAYERS - FIXED_LAYERS))
    slab.set_tags(np.where(layer == 1, SURFACE, SUBSURFACE))
    return slab, _relaxed_energy(slab)


@cache
def gas_energies() -> dict[str, float]:
    """Energies of H, O, C and N as OC20 takes them, from H2, H2O, CO and N2."""
    h2, h2o, co, n2 = (_relaxed_energy(molecule(name)) for name in ("H2", "H2O", "CO", "N2"))
    oxygen = h2o - h2
    return {"H": h2 / 2, "O": oxygen, "C": co - oxygen, "N": n2 / 2}


def _relaxed_energy(atoms: Atoms) -> float:
    atoms.calc = EMT()
    LBFGS(atoms, logfile=None).run(fmax=FMAX, steps=MAX_STEPS)  # type: ignore[arg-type]
    energy = atoms.get_potential_energy()
    atoms.calc = None
    return float(energy)


def _adsorbate(name: str, rng: np.random.Generator) -> Atoms:
    """Upright, its first atom lowest, turned about the vertical and tilted a little."""
    first, rest = name[0], name[1:]
    partner = "H" if rest.startswith("H") else rest
    count = int(rest[1:] or 1) if rest.startswith("H") else len(rest)
    bond = covalent_radii[Atoms(first).numbers[0]]
    atoms = Atoms(first)
    for k in range(count):
        angle = 2 * np.pi * k / count
        lean = 0.0 if count == 1 else 1.0
        direction = np.array([lean * np.cos(angle), lean * np.sin(angle), 0.8])
        length = bond + covalent_radii[Atoms(partner).numbers[0]]
        atoms += Atoms(partner, [length * direction / np.linalg.norm(direction)])
    atoms.rotate(rng.normal(scale=15), "x")
    atoms.rotate(rng.uniform(0, 360), "z")
    return atoms


def s2ef_frames(trajectory: Trajectory, frames: int) -> list[Data]:
    """So many frames of a relaxation, evenly spread, as OC20's S2EF data hold them."""
    last = len(trajectory.energies) - 1
    chosen = sorted(set(np.linspace(0, last, min(frames, last + 1)).round().astype(int)))
    return [
        _data(
            trajectory, frame, fid=int(frame), y=float(trajectory.energies[frame]),
            force=_tensor(trajectory.forces[frame]),
        )
        for frame in chosen
    ]  # fmt: skip


def is2re_entry(trajectory: Trajectory) -> Data:
    """The initial structure with what it relaxes to, as OC20's IS2RE and IS2RS data hold it."""
    return _data(
        trajectory, 0, y_init=float(trajectory.energies[0]),
        y_relaxed=float(trajectory.energies[-1]), pos_relaxed=_tensor(trajectory.positions[-1]),
    )  # fmt: skip


def _data(trajectory: Trajectory, frame: int, **labels) -> Data:
    atoms = trajectory.atoms
    fixed = torch.zeros(len(atoms))
    fixed[atoms.constraints[0].index] = 1
    return Data(
        pos=_tensor(trajectory.positions[frame]),
        cell=_tensor(atoms.cell.array)[None],
        atomic_numbers=_tensor(atoms.numbers),
        natoms=len(atoms),
        tags=torch.as_tensor(atoms.get_tags()),
        fixed=fixed,
        sid=trajectory.system.sid,
        **labels,
    )


def _tensor(values: np.ndarray) -> torch.Tensor:
    return torch.as_tensor(np.asarray(values), dtype=torch.float32)


def write(trajectories: list[Trajectory], output: Path, frames: int, report: dict) -> dict:
    """Write all splits of both tasks; return the number of entries of each."""
    by_split = defaultdict(list)
    for trajectory in trajectories:
        by_split[trajectory.system.split].append(trajectory)
    with complete_folder(output, report) as folder:
        for task in ("s2ef", "is2re"):
            (folder / task).mkdir()
            for split, members in by_split.items():
                entries = (
                    [entry for t in members for entry in s2ef_frames(t, frames)]
                    if task == "s2ef"
                    else map(is2re_entry, members)
                )
                report["entries"][f"{task}/{split}"] = write_lmdb(folder / task / split, entries)
    return report["entries"]


def make(
    output: Path, relaxations: int = 300, frames: int = 20, seed: int = 0, workers: int = 2
) -> dict[str, int]:
    """Write the set to `output` and print its size; the options are those of the command."""
    systems = plan(relaxations, seed)
    with get_context("spawn").Pool(workers) as pool:
        relaxed = pool.imap(relax, systems, chunksize=4)
        bar = tqdm(relaxed, "Relaxing", len(systems), unit=" systems", mininterval=1)
        trajectories = list(bar)
    settled = sum(_largest_force(t) < FMAX for t in trajectories)
    report = {
        "source": "ASE's EMT, no benchmark",
        "seed": seed,
        "relaxations": len(systems),
        "converged": settled,
        "entries": {},
    }
    entries = write(trajectories, output, frames, report)
    total = sum(n for name, n in entries.items() if name.startswith("s2ef"))
    print(
        f"Wrote {total} frames of {len(systems)} relaxations, {settled} of them converged, "
        f"to {output}"
    )
    return entries


def _largest_force(trajectory: Trajectory) -> float:
    """Largest force on a free atom of the last frame, eV/Angstrom."""
    free = np.ones(len(trajectory.atoms), dtype=bool)
    free[trajectory.atoms.constraints[0].index] = False
    return float(np.linalg.norm(trajectory.forces[-1][free], axis=1).max())


@click.command(context_settings={"show_default": True})
@click.option("--output", type=click.Path(path_type=Path), required=True, help="folder to make")
@click.option(
    "--relaxations", type=click.IntRange(1), default=300,
    help="to train on; each of the eight splits val_* and test_* gets a tenth of it",
)  # fmt: skip
@click.option("--frames", type=click.IntRange(1), default=20, help="at most, of a relaxation")
@click.option("--seed", type=click.IntRange(0), default=0, help="of everything drawn")
@click.option("--workers", type=click.IntRange(1), default=2, help="processes")
def command(**options: Any) -> None:
    """Relax adsorbates on slabs with ASE's effective medium theory, as data in OC20's shape.

    EMT takes milliseconds where density functional theory takes hours, but knows little of H, C, N
    and O: the data serve to try every step of the program, and are no benchmark.
    """
    make(**options)
