"""Functional groups of molecules that everyone knows."""

import pytest
from ase.build import molecule

from ocp_physmol.evaluation.functional_groups import disjoint_pairs, functional_groups

GROUPS = {
    "CH3CH2OH": ["CHHH", "HO"],
    "CH3CH2NH2": ["CHHH", "HHN"],
    "CH3CHO": ["CHO"],  # the smaller side, and not the oxygen, which a double bond holds
    "CH3OCH3": ["CHHH", "CHHH"],
    "isobutane": ["CHHH", "CHHH", "CHHH"],
    "C2H6": ["CHHH"],
    "CH3CN": ["CN"],
    "CH4": ["H", "H", "H", "H"],
    "H2O": ["H", "H"],
    "H2": ["H"],
    "C6H6": ["H"] * 6,
    "C3H6_D3h": ["H"] * 6,
    "CO2": [],
    "N2": [],
    "O": [],
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups(name):
    atoms = molecule(name)
    groups = functional_groups(atoms.numbers, atoms.positions)
    found = ["".join(sorted(atoms[list(g.atoms)].get_chemical_symbols())) for g in groups]
    assert sorted(found) == GROUPS[name]
    for group in groups:
        rest, first = group.bond
        assert first in group.atoms and rest not in group.atoms


def test_without_bond_orders_all_bonds_are_single():
    """Ammonium is no neutral molecule."""
    atoms = molecule("CH4")
    atoms.symbols[0] = "N"
    assert [g.atoms for g in functional_groups(atoms.numbers, atoms.positions)] == [
        (1,), (2,), (3,), (4,),
    ]  # fmt: skip


def test_pairs_do_not_overlap():
    atoms = molecule("trans-butane")  # CH3, CH3 and one half, which holds a CH3
    groups = functional_groups(atoms.numbers, atoms.positions)
    assert sorted(len(g.atoms) for g in groups) == [4, 4, 7]
    pairs = disjoint_pairs(groups)
    assert sorted(sorted(len(g.atoms) for g in pair) for pair in pairs) == [[4, 4], [4, 7]]
