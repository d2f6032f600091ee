"""Functional groups of a molecule, found from its geometry with RDKit."""

from contextlib import suppress
from itertools import combinations
from typing import NamedTuple

import numpy as np
from rdkit import Chem, rdBase
from rdkit.Chem import rdDetermineBonds

from ocp_physmol.geometry import bonds

BETWEEN_HEAVY_ATOMS = Chem.MolFromSmarts("[!#1]-!@[!#1]")  # single bonds outside rings
BETWEEN_ANY_ATOMS = Chem.MolFromSmarts("*-!@*")


class Group(NamedTuple):
    """The part of a molecule that hangs on the rest by one single bond."""

    atoms: tuple[int, ...]  # that move, among them the second of the bond
    bond: tuple[int, int]  # from the rest to the group


def functional_groups(numbers: np.ndarray, positions: np.ndarray) -> list[Group]:
    """The smaller side of every single bond outside rings between two heavy atoms.

    So -CH3, -OH and -NH2 are groups. A molecule without such a bond (methane, water, benzene) has
    its hydrogens for groups; a lone atom or CO2 has none. `positions` [n, 3] are in Angstrom.
    """
    mol = to_rdkit(numbers, positions)
    heavy = mol.GetSubstructMatches(BETWEEN_HEAVY_ATOMS)
    cuts = heavy or mol.GetSubstructMatches(BETWEEN_ANY_ATOMS)
    return sorted(_smaller_side(mol, ends) for ends in cuts)


def disjoint_pairs(groups: list[Group]) -> list[tuple[Group, Group]]:
    """Pairs of groups of which none holds a part of the other."""
    return [(a, b) for a, b in combinations(groups, 2) if not set(a.atoms) & set(b.atoms)]


def to_rdkit(numbers: np.ndarray, positions: np.ndarray) -> Chem.Mol:
    """An RDKit molecule with the bonds of `geometry.bonds`, and their orders.

    All bonds are single if RDKit finds no orders for a neutral molecule, as for some zwitterions.
    """
    mol = Chem.RWMol()
    for number in numbers:
        mol.AddAtom(Chem.Atom(int(number)))
    for i, j in sorted(bonds(numbers, positions)):
        mol.AddBond(i, j, Chem.BondType.SINGLE)
    ordered = Chem.Mol(mol)
    with suppress(ValueError), rdBase.BlockLogs():
        rdDetermineBonds.DetermineBondOrders(ordered, charge=0, embedChiral=False)
        mol = ordered
    Chem.FastFindRings(mol)
    return mol


def _smaller_side(mol: Chem.Mol, ends: tuple[int, int]) -> Group:
    """The side of a bond with fewer atoms; of equal ones that of the end with the higher index."""
    cut = Chem.RWMol(mol)
    cut.RemoveBond(*ends)
    sides = {end: side for side in Chem.GetMolFrags(cut) for end in ends if end in side}
    rest, group = sorted(ends, key=lambda end: (-len(sides[end]), end))
    return Group(tuple(sorted(sides[group])), (rest, group))
