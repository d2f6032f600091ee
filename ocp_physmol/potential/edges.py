"""Pairs of neighbours, and what the network reads of them: knots, envelope and direction."""

from typing import NamedTuple

import numpy as np
from ase import Atoms
from ase.cell import Cell

from ocp_physmol.model.cell_list import listed_pairs
from ocp_physmol.model.fast.loops import Edges

LARGE = 500  # atoms; from here on ASE's cell list beats all pairs
SHORTEST = 1e-6  # Angstrom; atoms in one place have finite forces


class Pairs(NamedTuple):
    """P pairs of neighbours, each once, and every periodic image as a pair of its own."""

    i: np.ndarray  # [P]
    j: np.ndarray  # [P]
    vector: np.ndarray  # [P, 3], from i to j, Angstrom


def periodic(atoms: Atoms) -> np.ndarray:
    """Which vectors of the cell are periods, [3] (bool); a zero vector is none."""
    return atoms.pbc & atoms.cell.any(1)


def find_pairs(atoms: Atoms, cutoff: float) -> Pairs:
    """The pairs of atoms that are closer than the `cutoff` (Angstrom)."""
    pbc = periodic(atoms)
    if len(atoms) < LARGE and not pbc.any():
        i, j = np.triu_indices(len(atoms), 1)
        vector = atoms.positions[j] - atoms.positions[i]
        near = (vector * vector).sum(1) < cutoff**2
        return Pairs(i[near], j[near], vector[near])
    cell = Cell(atoms.cell.array * pbc[:, None]).complete().array
    i, j, image = listed_pairs(atoms.positions, cell, pbc.tolist(), cutoff)
    return Pairs(i, j, atoms.positions[j] - atoms.positions[i] + image @ cell)


def join(parts: list[Pairs], natoms: list[int]) -> Pairs:
    """The pairs of many structures, whose atoms follow one another."""
    first = np.cumsum([0, *natoms[:-1]])
    i = np.concatenate([pairs.i + start for pairs, start in zip(parts, first)])
    j = np.concatenate([pairs.j + start for pairs, start in zip(parts, first)])
    return Pairs(i, j, np.concatenate([pairs.vector for pairs in parts]))


class MeasuredEdges:
    """The E = 2P + N edges of N atoms, in the order of `model.graph.Graph`.

    `all` are for the attention; `between_atoms`, for the embedding, leave out those of an atom to
    itself. Filters have `intervals` between knots up to the `cutoff`, and a table has the rows of
    `kind` 0 first, then those of 1, ...
    """

    def __init__(
        self, pairs: Pairs, kind: np.ndarray, cutoff: float, intervals: int, heads: int, dtype
    ) -> None:
        atoms, count = np.arange(len(kind)), len(pairs.vector)
        squared = (pairs.vector * pairs.vector).sum(1)
        self._distance = np.sqrt(np.maximum(squared, SHORTEST**2))
        self._unit = pairs.vector / self._distance[:, None]
        turn = np.pi / cutoff
        envelope = 0.5 * (np.cos(turn * self._distance) + 1)
        self._envelope_slope = -0.5 * turn * np.sin(turn * self._distance)
        interval, weight, slope = _knots(self._distance, cutoff / intervals, intervals)
        self._weight_slope = slope
        _, at_zero, _ = _knots(np.zeros(1), cutoff / intervals, intervals)

        center = np.concatenate([pairs.i, pairs.j, atoms])
        row = np.concatenate([interval, interval, np.zeros_like(atoms)])
        gate = np.concatenate([envelope, envelope, np.ones(len(kind))]).astype(dtype)
        weights = np.concatenate([weight, weight, at_zero.repeat(len(kind), 0)])
        nothing = np.zeros((len(kind), 3))
        self.all = Edges(
            center,
            np.concatenate([pairs.j, pairs.i, atoms]),
            kind[center] * (intervals + 3) + row,
            weights.astype(dtype),
            np.repeat(gate[:, None], heads, axis=1),
            np.concatenate([self._unit, -self._unit, nothing]).astype(dtype),
        )
        short = (field[: 2 * count] for field in self.all)
        self.between_atoms = Edges(*short)._replace(
            gate=gate[: 2 * count], direction=np.zeros((0, 3), dtype)
        )

    def gradient(self, weight: np.ndarray, gate: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """The gradient of the pairs' vectors [P, 3] from those of `weight` [E, 4], `gate` [E] and
        `direction` [E, 3]."""
        weight, gate = _of_pairs(weight, len(self._unit)), _of_pairs(gate, len(self._unit))
        along = (weight * self._weight_slope).sum(1) + gate * self._envelope_slope
        turned = _of_pairs(direction, len(self._unit), sign=-1)
        turned = turned - (turned * self._unit).sum(1, keepdims=True) * self._unit
        return along[:, None] * self._unit + turned / self._distance[:, None]


def _of_pairs(values: np.ndarray, count: int, sign: int = 1) -> np.ndarray:
    """The sum over both edges of each pair, in double precision."""
    return values[:count].astype(float) + sign * values[count : 2 * count]


def _knots(distance: np.ndarray, spacing: float, intervals: int):
    """`model.fast.knots.Tables.place`: first knot [P], weights of four and their slopes [P, 4]."""
    position = distance / spacing
    interval = np.clip(position.astype(int), 0, intervals - 1)
    t = np.minimum(position, intervals) - interval
    s = 1 - t
    weight = s**3 / 6, t * t * (t / 2 - 1) + 2 / 3, s * s * (s / 2 - 1) + 2 / 3, t**3 / 6
    slope = -s * s / 2, t * (1.5 * t - 2), s * (2 - 1.5 * s), t * t / 2
    return interval, np.stack(weight, 1), np.stack(slope, 1) / spacing
