"""Internal coordinates: their derivatives, and which of them a molecule has."""

import math

import pytest
import torch
from ase.build import molecule

from ocp_physmol.geometry import bonds
from ocp_physmol.pushes import internal_coordinates as internal

NAMES = ["CH3CH2OH", "C6H6", "CH3CN", "CH3CONH2", "H2O2", "C2H4"]


def geometry(name, rattled=0.05):
    """Positions [1, n, 3], hardly distorted, and which atoms are bonded [1, n, n]."""
    atoms = molecule(name)
    bonded = torch.zeros(1, len(atoms), len(atoms), dtype=torch.bool)
    for i, j in bonds(atoms.numbers, atoms.positions):
        bonded[0, i, j] = bonded[0, j, i] = True
    atoms.rattle(rattled, seed=1)
    return torch.tensor(atoms.positions)[None], bonded


def slopes_of(coordinates, pos):
    """Derivatives [C, n, 3] by all positions."""
    full = pos.new_zeros(len(coordinates.atoms), *pos.shape[1:])
    full[torch.arange(len(full))[:, None], coordinates.atoms[:, 1:]] = coordinates.slopes
    return full


def differences(function, pos, bonded, step=1e-5):
    """The same by central differences; angles do not jump."""
    found = []
    for shift in torch.eye(pos.numel(), dtype=pos.dtype).view(-1, *pos.shape):
        ahead, behind = (function(pos + sign * step * shift, bonded).value for sign in (1, -1))
        change = torch.remainder(ahead - behind + math.pi, 2 * math.pi) - math.pi
        found.append(change / (2 * step))
    return torch.stack(found, 1).view(-1, *pos.shape[1:])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "function",
    [internal.stretches, lambda *given: internal.bends(*given)[0], internal.torsions],
    ids=["stretches", "bends", "torsions"],
)
def test_slopes_are_derivatives(function, name):
    pos, bonded = geometry(name)
    found = slopes_of(function(pos, bonded), pos)
    torch.testing.assert_close(found, differences(function, pos, bonded), atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("name", ["C6H6", "CH3CONH2", "C2H4"])
def test_heights_of_planes_are_derivatives_where_they_are_flat(name):
    pos, bonded = geometry(name, rattled=0.0)
    found = slopes_of(internal.planes(pos, bonded), pos)
    expected = differences(internal.planes, pos, bonded)
    assert len(found) and float((found - expected).abs().max()) < 0.02 * float(found.abs().max())


@pytest.mark.parametrize("name", NAMES)
def test_rigid_motions_change_nothing(name):
    pos, bonded = geometry(name)
    bent, linear = internal.bends(pos, bonded)
    sorts = [internal.stretches(pos, bonded), bent, linear,
             internal.torsions(pos, bonded), internal.planes(pos, bonded)]  # fmt: skip
    for one in sorts:
        slopes = slopes_of(one, pos)
        assert float(slopes.sum(1).abs().max() if len(slopes) else 0) < 1e-10
        if one is not linear:  # whose bends turn with the axis
            turned = torch.linalg.cross(pos.expand_as(slopes), slopes).sum(1)
            assert float(turned.abs().max() if len(turned) else 0) < 1e-10


def test_which_coordinates_a_molecule_has():
    """Acetonitrile: a methyl group on a linear chain."""
    pos, bonded = geometry("CH3CN", rattled=0.0)
    bent, linear = internal.bends(pos, bonded)
    assert len(internal.stretches(pos, bonded).atoms) == 5
    assert len(bent.atoms) == 6 and len(linear.atoms) == 2
    assert len(internal.torsions(pos, bonded).atoms) == 0
    assert len(internal.planes(pos, bonded).atoms) == 0
    across = slopes_of(linear, pos)
    assert abs(float((across[0] * across[1]).sum())) < 1e-10


def test_torsions_have_the_sign_of_a_right_handed_screw():
    pos = torch.tensor([[[0.0, 1, 0], [0, 0, 0], [0, 0, 1], [-1, 0, 1]]])
    bonded = torch.zeros(1, 4, 4, dtype=torch.bool)
    for i in range(3):
        bonded[0, i, i + 1] = bonded[0, i + 1, i] = True
    assert float(internal.torsions(pos, bonded).value) == pytest.approx(math.pi / 2)
