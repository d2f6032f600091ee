"""Relaxations of many structures at once: all take a step of ASE's L-BFGS, then all get forces."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.optimize import LBFGS
from tqdm import tqdm

from ocp_physmol.calculators.pool import Refusal
from ocp_physmol.molecules.methods import Method

MAXSTEP = 0.1  # Angstrom, which no atom goes beyond in a step


class End(NamedTuple):
    """Where a relaxation ended."""

    atoms: Atoms
    results: dict  # of the method, there: energy (eV), forces (eV/Angstrom), maybe their spread
    steps: int
    converged: bool

    @property
    def largest_force(self) -> float:
        """On an atom that moves, eV/Angstrom."""
        return _largest(_on_moving(self.atoms, self.results["forces"]))


def relax(
    method: Method, structures: Sequence[Atoms], fmax: float, steps: int, title: str | None = None
) -> list[End | Refusal]:
    """Relax copies of structures until no force on an atom is larger than `fmax` (eV/Angstrom).

    A structure takes `steps` steps at most. What the method refuses, at once or on the way, is
    answered with the reason. With a progress bar, if there is a title.
    """
    found: dict[int, End | Refusal] = {}
    images = {k: atoms.copy() for k, atoms in enumerate(structures)}
    moving = {
        k: LBFGS(atoms, maxstep=MAXSTEP, logfile=None)  # type: ignore[arg-type]
        for k, atoms in images.items()
    }
    with tqdm(total=len(structures), desc=title, unit=" structures", disable=title is None) as bar:
        for step in range(steps + 1):
            answers = method.answer([images[k] for k in moving])
            for k, answer in zip(list(moving), answers):
                if isinstance(answer, Refusal):
                    found[k] = answer
                else:
                    forces = _on_moving(images[k], answer["forces"])
                    converged = _largest(forces) <= fmax
                    if not converged and step < steps:
                        moving[k].step(forces)
                        continue
                    found[k] = End(images[k], answer, step, converged)
                del moving[k]
                bar.update()
            if not moving:
                break
    return [found[k] for k in range(len(structures))]


def _on_moving(atoms: Atoms, forces: np.ndarray) -> np.ndarray:
    """The forces, without those that constraints such as FixAtoms take up."""
    forces = forces.copy()
    for constraint in atoms.constraints:
        constraint.adjust_forces(atoms, forces)
    return forces


def _largest(forces: np.ndarray) -> float:
    return float(np.linalg.norm(forces, axis=1).max())
