"""Alignment, and what is a bond."""

import numpy as np
import pytest
import torch
from ase.build import molecule
from ase.data import covalent_radii
from scipy.spatial.transform import Rotation

from ocp_physmol.geometry import bonded, bonds, environments
from ocp_physmol.tensor_geometry import align, sharp_soft_bonds, soft_bonds


def test_alignment_is_the_best_one():
    """Against scipy's, which minimises the same squares."""
    rng = np.random.default_rng(1)
    reference = molecule("CH3CH2OH").positions
    moved = reference + rng.normal(size=reference.shape) * 0.3
    rssd = Rotation.align_vectors(reference - reference.mean(axis=0), moved - moved.mean(axis=0))[1]
    found = align(torch.from_numpy(moved), torch.from_numpy(reference)).numpy()
    assert np.linalg.norm(found - reference) == pytest.approx(rssd)


def test_alignment_of_padded_molecules_is_that_of_each():
    generator = torch.Generator().manual_seed(0)
    positions, reference = torch.randn(2, 3, 7, 3, generator=generator, dtype=torch.float64)
    mask = torch.arange(7) < torch.tensor([4, 7, 5])[:, None]
    together = align(positions, reference, mask)
    for i, own in enumerate(mask):
        alone = align(positions[i, own], reference[i, own])
        torch.testing.assert_close(together[i, own], alone)


def test_bonds_of_known_molecules():
    def found(name) -> set:
        atoms = molecule(name)
        return bonds(atoms.numbers, atoms.positions)

    assert found("CH4") == {(0, 1), (0, 2), (0, 3), (0, 4)}
    assert len(found("CH3CH2OH")) == 8 and len(found("C6H6")) == 12
    assert len(found("H2")) == 1 and found("H") == set()


def test_what_atoms_are_bonded_to():
    atoms = molecule("CH3CH2OH")
    found = environments(atoms.numbers, atoms.positions)
    assert found[:3] == ["C(CHHO)", "C(CHHH)", "O(CH)"] or found[:3] == [
        "C(CHHH)",
        "C(CHHO)",
        "O(CH)",
    ]
    assert sorted(found[3:]) == ["H(C)"] * 5 + ["H(O)"]
    assert environments(np.array([2]), np.zeros((1, 3))) == ["He()"]


def test_bonds_of_many_atoms_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    numbers, positions = rng.choice([1, 6, 8, 35], 300), rng.uniform(0, 12, (300, 3))
    i, j = np.triu_indices(300, 1)
    distance = np.linalg.norm(positions[i] - positions[j], axis=1)
    chosen = bonded(numbers[i], numbers[j], distance)
    assert bonds(numbers, positions) == set(zip(i[chosen], j[chosen]))
    positions[7] = np.nan
    assert bonds(numbers, positions) == set()


def test_hydrogen_bonds_are_none():
    first, second = molecule("H2O"), molecule("H2O")
    along = first.positions[1] - first.positions[0]
    second.translate(along / np.linalg.norm(along) * 2.8)
    dimer = first + second
    assert dimer.get_distance(1, 3) < 1.9
    assert bonds(dimer.numbers, dimer.positions) == {(0, 1), (0, 2), (3, 4), (3, 5)}


def test_all_bonds_agree_away_from_where_they_break():
    radii = 2 * covalent_radii[6]
    for ratio, expected in ((0.8, 1), (1.1, 1), (1.6, 0), (3.0, 0)):
        distance = torch.tensor(ratio * radii)
        assert bool(bonded(6, 6, float(distance))) == bool(expected)
        for soft in (soft_bonds, sharp_soft_bonds):
            assert float(soft(distance, torch.tensor(radii))) == pytest.approx(expected, abs=0.02)
