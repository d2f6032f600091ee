"""Small labelled frames, as files of one's own: ethanol, pushed about its minimum in EMT."""

from pathlib import Path

from ase.build import bulk, molecule
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write


def ethanol(path: Path, number: int = 20, first_seed: int = 0) -> Path:
    """An extxyz file with so many frames."""
    frames = [labelled(molecule("CH3CH2OH"), first_seed + seed) for seed in range(number)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, frames)
    return path


def crystals(path: Path) -> Path:
    """A trajectory of copper whose cell changes."""
    lengths = [3.5 + 0.02 * step for step in range(12)]
    write(path, [labelled(bulk("Cu", a=a, cubic=True), step) for step, a in enumerate(lengths)])
    return path


def labelled(atoms, seed: int):
    atoms.rattle(0.08, seed=seed)
    atoms.calc = EMT()
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=forces)
    return atoms
