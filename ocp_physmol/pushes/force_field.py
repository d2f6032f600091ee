"""The curvature of a minimum as force fields have it: K of 1/2 s^T K s, s the changes of bonds,
angles, torsions and planes.

K has a constant for each kind of coordinate, and for each kind of two that share atoms. A kind is
named by the elements and numbers of neighbours of its atoms. The constants were fitted to second
derivatives of training molecules of QM9 (benchmarks/force_field.py).
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import NamedTuple

import torch

from ocp_physmol.pushes import internal_coordinates as internal
from ocp_physmol.pushes.internal_coordinates import Coordinates

CONSTANTS = Path(__file__).with_name("force_field.json")
SORTS = ("", "stretch", "stretch'", "stretch''", "bend", "bend'", "linear", "torsion", "plane",
         "stretch-stretch", "stretch-bend", "bend-bend")  # fmt: skip
TETRAHEDRAL = math.radians(110)  # angles from which bends change their constants
BASE = 128  # of numbers that stand for kinds: above any atomic number


class Couplings(NamedTuple):
    """E entries of K, of molecules of a batch."""

    rows: torch.Tensor  # [E, 3]: the molecule, and the places of two of its coordinates
    kind: torch.Tensor  # [E]: whose constant it is
    factor: torch.Tensor  # [E]: by which the constant is multiplied


def kind_of(sort: str, *parts: int) -> int:
    """The number that stands for a kind, such as ("bend", 6, 4, 1, 1): H-C-H at four bonds."""
    return int(_kinds(SORTS.index(sort), *map(torch.tensor, parts)))


def _kinds(sort: int, *parts: torch.Tensor) -> torch.Tensor:
    kinds = torch.zeros_like(parts[0]) + sort
    for part in parts:
        kinds = BASE * kinds + part
    return kinds


@cache
def constants() -> dict[int, float]:
    """The fitted constants, by the numbers of their kinds; eV, Angstrom, radians."""
    found = json.loads(CONSTANTS.read_text())
    named = ((*name.split(" "), value) for name, value in found.items())
    return {kind_of(sort, *map(int, parts)): value for sort, *parts, value in named}


class ForceField:
    """The coordinates of B molecules of n atoms at their minima, and what couples them.

    `slopes` [B, T, 3n] are the derivatives of T coordinates, zero for padding; `couplings` say
    which entries of K are which constant.

    Args:
        pos, numbers: [B, n, 3] (Angstrom) and [B, n].
        bonded: [B, n, n] (bool).
        radii: [B, n, n], sums of two covalent radii (Angstrom).
    """

    def __init__(self, pos, numbers, bonded, radii) -> None:
        self._numbers, self._neighbors = numbers, bonded.sum(-1)
        bent, linear = internal.bends(pos, bonded)
        sorts = [internal.stretches(pos, bonded), bent, linear,
                 internal.torsions(pos, bonded), internal.planes(pos, bonded)]  # fmt: skip
        places = self._placed(sorts, len(pos))
        self.slopes = self._slopes(sorts, places, pos)
        stretch, bend, bow, torsion, plane = zip(sorts, places)
        self._found: list[tuple[torch.Tensor, ...]] = []
        self._couple_stretches(*stretch, radii)
        self._couple_bends(*bend, *stretch, len(pos), pos.shape[1])
        self._couple_linear_bends(*bow)
        self._couple_torsions(*torsion)
        self._couple_planes(*plane)
        rows, kind, factor = (torch.cat(parts) for parts in zip(*self._found))
        self.couplings = Couplings(rows, kind, factor)
        self._kinds, self._which = kind.unique(return_inverse=True)

    @property
    def known(self) -> torch.Tensor:
        """Of which molecules all coordinates have constants, [B] (bool)."""
        molecule, first, second = self.couplings.rows.unbind(1)
        has = torch.tensor([k in constants() for k in self._kinds.tolist()]).to(molecule)
        lacking = (has[self._which] == 0) & (first == second)
        return torch.bincount(molecule[lacking], minlength=len(self.slopes)) == 0

    def hessian(self, table: dict[int, float] | None = None) -> torch.Tensor:
        """Second derivatives at the minima, [B, 3n, 3n], eV/A^2.

        Of the constants in `table`, by the numbers of their kinds, else of `constants()`. Kinds
        that it lacks have none.
        """
        table = constants() if table is None else table
        rows, _, factor = self.couplings
        value = torch.tensor([table.get(k, 0.0) for k in self._kinds.tolist()]).to(self.slopes)
        force = self.slopes.new_zeros(*self.slopes.shape[:2], self.slopes.shape[1])
        entries = value[self._which] * factor / 2
        molecule, first, second = rows.unbind(1)
        force.index_put_((molecule, first, second), entries, accumulate=True)
        return self.slopes.mT @ (force + force.mT) @ self.slopes

    @staticmethod
    def _placed(sorts: list[Coordinates], molecules: int) -> list[torch.Tensor]:
        """The place [C] of each coordinate among all of its molecule."""
        places, before = [], torch.zeros(molecules, dtype=torch.long, device=sorts[0].atoms.device)
        for one in sorts:
            molecule = one.atoms[:, 0]
            count = torch.bincount(molecule, minlength=molecules)
            order = molecule.argsort(stable=True)
            first = (count.cumsum(0) - count)[molecule[order]]
            rank = torch.empty_like(order)
            rank[order] = torch.arange(len(order)).to(order) - first
            places.append(before[molecule] + rank)
            before = before + count
        return places

    @staticmethod
    def _slopes(sorts: list[Coordinates], places: list[torch.Tensor], pos) -> torch.Tensor:
        total = max([0, *(int(place.max()) + 1 for place in places if len(place))])
        slopes = pos.new_zeros(len(pos), total, *pos.shape[1:])
        for one, place in zip(sorts, places):
            molecule, atoms = one.atoms[:, :1], one.atoms[:, 1:]
            slopes[molecule, place[:, None], atoms] = one.slopes
        return slopes.flatten(2)

    def _add(self, sort: str, molecule, first, second, factor, *parts) -> None:
        """Entries of K between coordinates at the places `first` and `second`, and their kinds."""
        rows = torch.stack([molecule, first, second], 1)
        factor = torch.as_tensor(factor).to(self.slopes).expand(len(rows))
        self._found.append((rows, _kinds(SORTS.index(sort), *parts), factor))

    def _z(self, molecule, atom) -> torch.Tensor:
        return self._numbers[molecule, atom]

    def _ends(self, molecule, i, k) -> tuple[torch.Tensor, torch.Tensor]:
        first, last = self._z(molecule, i), self._z(molecule, k)
        return torch.minimum(first, last), torch.maximum(first, last)

    def _couple_stretches(self, bonds: Coordinates, place, radii) -> None:
        """Constants that change with the bond's length, as a parabola."""
        molecule, i, j = bonds.atoms.unbind(1)
        elements = self._ends(molecule, i, j)
        longer = 10 * (bonds.value - radii[molecule, i, j])
        for sort, factor in (("stretch", 1.0), ("stretch'", longer), ("stretch''", longer**2)):
            self._add(sort, molecule, place, place, factor, *elements)

    def _couple_bends(self, bends: Coordinates, place, bonds, of_bond, molecules, n) -> None:
        """With themselves, with their bonds, and with each other around one atom."""
        molecule, i, j, k = bends.atoms.unbind(1)
        centre = self._z(molecule, j), self._neighbors[molecule, j]
        self._add("bend", molecule, place, place, 1.0, *centre, *self._ends(molecule, i, k))
        self._add("bend'", molecule, place, place, 5 * (bends.value - TETRAHEDRAL), *centre)
        lookup = torch.zeros(molecules, n, n, dtype=torch.long, device=place.device)
        where, first, second = bonds.atoms.unbind(1)
        lookup[where, first, second] = lookup[where, second, first] = of_bond
        one, other = lookup[molecule, i, j], lookup[molecule, j, k]
        self._add("stretch-stretch", molecule, one, other, 1.0, *centre)
        self._add("stretch-bend", molecule, one, place, 1.0, *centre, self._z(molecule, i))
        self._add("stretch-bend", molecule, other, place, 1.0, *centre, self._z(molecule, k))
        around = molecule * n + j
        first, second = (around[:, None] == around).triu(1).nonzero().unbind(1)
        parts = (part[first] for part in centre)
        self._add("bend-bend", molecule[first], place[first], place[second], 1.0, *parts)

    def _couple_linear_bends(self, bends: Coordinates, place) -> None:
        molecule, i, j, k = bends.atoms.unbind(1)
        ends = self._ends(molecule, i, k)
        self._add("linear", molecule, place, place, 1.0, self._z(molecule, j), *ends)

    def _couple_planes(self, planes: Coordinates, place) -> None:
        """By the centre and the two heaviest of its neighbours."""
        molecule, j, *others = planes.atoms.unbind(1)
        elements = torch.stack([self._z(molecule, k) for k in others], 1).sort(1).values
        parts = self._z(molecule, j), *elements[:, 1:].unbind(1)
        self._add("plane", molecule, place, place, 1.0, *parts)

    def _couple_torsions(self, torsions: Coordinates, place) -> None:
        """All torsions around a bond share one constant, whose kind does not know its direction."""
        molecule, _, j, k, _ = torsions.atoms.unbind(1)
        ends = [BASE * self._z(molecule, a) + self._neighbors[molecule, a] for a in (j, k)]
        low, high = torch.minimum(*ends), torch.maximum(*ends)
        size = self._numbers.shape[1]
        bond = (molecule * size + j) * size + k
        _, around, count = bond.unique(return_inverse=True, return_counts=True)
        parts = (low // BASE, low % BASE, high // BASE, high % BASE)
        self._add("torsion", molecule, place, place, 1 / count[around], *parts)
