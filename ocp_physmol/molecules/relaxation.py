"""Relaxations of many structures at once: all get forces, then all take a step of ASE's L-BFGS."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.optimize import LBFGS
from tqdm import tqdm

from ocp_physmol.calculators.pool import Refusal
from ocp_physmol.errors import UserError
from ocp_physmol.molecules.methods import Method
from ocp_physmol.potential.calculator import largest

MAXSTEP = 0.1  # Angstrom, which no atom goes beyond in a step


class End(NamedTuple):
    """Where a relaxation ended."""

    atoms: Atoms  # whose calculator has the energy and the forces there
    results: dict  # of the method, there: energy (eV), forces (eV/Angstrom), maybe their spread
    steps: int
    converged: bool

    @property
    def largest_force(self) -> float:
        """On an atom that moves, eV/Angstrom."""
        return largest(self.atoms.get_forces())


def relax(
    method: Method, structures: Sequence[Atoms], fmax: float, steps: int, title: str | None = None
) -> list[End | Refusal]:
    """The ends of the relaxations of copies of structures, see `relaxations`."""
    found = dict(relaxations(method, structures, fmax, steps, title))
    return [found[k] for k in range(len(structures))]


def relaxations(
    method: Method, structures: Sequence[Atoms], fmax: float, steps: int, title: str | None = None
) -> Iterator[tuple[int, End | Refusal]]:
    """Relax copies of structures until no force on an atom is larger than `fmax` (eV/Angstrom).

    A structure takes `steps` steps at most. Yields the place of each and where it ended, as soon as
    it has. What the method refuses, at once or on the way, ends with the reason. With a progress
    bar, if there is a title. A UserError if the method cannot begin.
    """
    images = {k: atoms.copy() for k, atoms in enumerate(structures)}
    moving = {k: _optimizer(atoms) for k, atoms in images.items()}
    with tqdm(total=len(structures), desc=title, unit=" structures", disable=title is None) as bar:
        for step in range(steps + 1):
            there = [images[k] for k in moving]
            answers = answers_or_refusals(method, there) if step else method.answer(there)
            for k, answer in zip(list(moving), answers):
                end: End | Refusal
                if isinstance(answer, Refusal):
                    end = answer
                else:
                    known = {key: answer[key] for key in ("energy", "forces")}
                    images[k].calc = SinglePointCalculator(images[k], **known)
                    converged = largest(images[k].get_forces()) <= fmax
                    if not converged and step < steps:
                        if _rises(moving[k], images[k]):
                            moving[k] = _optimizer(images[k])
                        moving[k].step()
                        continue
                    end = End(images[k], answer, step, converged)
                del moving[k]
                bar.update()
                yield k, end
            if not moving:
                break


def _optimizer(atoms: Atoms) -> LBFGS:
    return LBFGS(atoms, maxstep=MAXSTEP, logfile=None)  # type: ignore[arg-type]


def _rises(optimizer: LBFGS, atoms: Atoms) -> bool:
    """Whether the curvature along the last step was negative, which would lead L-BFGS uphill."""
    if optimizer.r0 is None or optimizer.f0 is None:
        return False
    step = atoms.positions.ravel() - optimizer.r0.ravel()
    return bool(step @ (optimizer.f0.ravel() - atoms.get_forces().ravel()) <= 0)


def answers_or_refusals(method: Method, structures: list[Atoms]) -> Sequence[dict | Refusal]:
    """Those of a method that has begun. If it fails now, what has been found before stays."""
    try:
        return method.answer(structures)
    except UserError as e:
        return [Refusal(e)] * len(structures)
