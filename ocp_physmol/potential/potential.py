"""A trained model that gives the energies and forces of ASE's Atoms."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers

from ocp_physmol.geometry import is_neutral, stated_charges
from ocp_physmol.potential.edges import MeasuredEdges, Pairs, find_pairs, join, periodic
from ocp_physmol.potential.network import Network
from ocp_physmol.potential.repulsion import repulsion
from ocp_physmol.potential.weights import NUM_TYPES, Trained, read


class Surroundings(NamedTuple):
    """Of structures that are evaluated together, with N atoms."""

    natoms: list[int]
    numbers: np.ndarray  # [N]
    pairs: Pairs
    edges: MeasuredEdges


class Potential:
    """Energies in eV and forces in eV/Angstrom, without the prior that the card may name."""

    def __init__(self, trained: Trained, dtype: str = "float32") -> None:
        """`dtype` is that of the network's arithmetic; distances are in double precision."""
        self.card = trained.card
        self.elements = list(self.card.references)
        weights = {name: values.astype(dtype) for name, values in trained.weights.items()}
        known = sorted(atomic_numbers[element] for element in self.elements)
        self.network = Network(self.card.model, weights, np.array(known))
        self._references = np.full(NUM_TYPES, np.nan)
        for element, energy in self.card.references.items():
            self._references[atomic_numbers[element]] = energy

    @classmethod
    def open(cls, name: str | Path, dtype: str = "float32") -> "Potential":
        """The model of NAME.safetensors and NAME.json."""
        return cls(read(Path(name)), dtype)

    def evaluate(self, structures: Sequence[Atoms]) -> list[tuple[float, np.ndarray]]:
        """The energy and the forces [n, 3] of each structure; one at least, evaluated together.

        None of them may be `unfit`.
        """
        return self.answers(self.surroundings(structures))

    def surroundings(self, structures: Sequence[Atoms]) -> Surroundings:
        """Which atoms are near each other in structures."""
        natoms = [len(atoms) for atoms in structures]
        pairs = join([find_pairs(atoms, self.network.cutoff) for atoms in structures], natoms)
        numbers = np.concatenate([atoms.numbers for atoms in structures])
        return Surroundings(natoms, numbers, pairs, self.network.edges(numbers, pairs))

    def answers(self, around: Surroundings) -> list[tuple[float, np.ndarray]]:
        """What `evaluate` gives, from the surroundings that this potential has found, or one whose
        network has the same `edge_options`."""
        natoms, numbers, pairs, edges = around
        energies, slopes = self.network(numbers, edges)
        if self.card.model.repulsion:
            repelled, steep = repulsion(numbers, pairs, self.network.cutoff)
            energies, slopes = energies + repelled, slopes + steep
        energies = self.card.scale * energies + self._references[numbers]
        forces = _forces(self.card.scale * slopes, pairs, len(numbers))
        ends = np.cumsum(natoms)[:-1]
        sums = [self.card.shift + part.sum() for part in np.split(energies, ends)]
        return list(zip(sums, np.split(forces, ends)))

    def unfit(self, atoms: Atoms) -> str | None:
        """Why a structure cannot be evaluated; None if it can."""
        if len(atoms) == 0:
            return "it has no atoms"
        if unknown := sorted(set(atoms.symbols) - set(self.elements)):
            return f"it has {', '.join(unknown)}; the model knows {', '.join(self.elements)} alone"
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            return "its positions or its cell are not finite"
        if charged := [charge for charge in stated_charges(atoms) if not is_neutral(charge)]:
            return f"it has the charge {charged[0]}, which no model here knows of"
        periods = atoms.cell.array[periodic(atoms)]
        if len(periods) and np.linalg.matrix_rank(periods) < len(periods):
            return "its cell is flat"
        return None


def _forces(slopes: np.ndarray, pairs: Pairs, count: int) -> np.ndarray:
    """Forces [count, 3] from the derivatives by the pairs' vectors [P, 3]."""
    forces = np.empty((count, 3))
    for axis in range(3):
        pulled = np.bincount(pairs.i, slopes[:, axis], count)
        forces[:, axis] = pulled - np.bincount(pairs.j, slopes[:, axis], count)
    return forces
