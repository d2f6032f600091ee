"""The springs around a minimum: what they must leave alone, and what they must resist."""

import pytest
import torch
from ase.build import molecule
from conftest import to_batch
from scipy.spatial.transform import Rotation

from ocp_physmol.pushes.elastic_network import SOFTEST, ElasticNetwork

NAMES = ("CH3CH2OH", "H2O", "C6H6", "C2H2")


def network(*names, turn=None):
    batch = to_batch(*map(molecule, names or NAMES))
    pos = batch.pos if turn is None else batch.pos @ turn.T
    return ElasticNetwork(pos, batch.atomic_numbers, batch.natoms)


def moved(springs, size=0.1, seed=0):
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(springs.minimum.shape, generator=generator, dtype=torch.float64)
    return springs.minimum + size * noise * springs.mask[..., None]


def test_minimum_is_one():
    springs = network()
    energy, forces = springs.energy_and_forces(springs.minimum)
    assert float(energy.abs().max()) == 0 and float(forces.abs().max()) < 1e-12
    for seed in range(20):
        assert (springs.energy_and_forces(moved(springs, 0.05, seed))[0] > 0).all()


def test_forces_are_the_derivative_of_the_energy():
    springs = network()
    pos = moved(springs).requires_grad_()
    energy, forces = springs.energy_and_forces(pos)
    gradient = torch.autograd.grad(energy.sum(), pos)[0]
    torch.testing.assert_close(forces.detach()[springs.mask], -gradient[springs.mask])


def test_hessian_is_the_derivative_of_the_forces():
    springs, step = network(), 1e-5
    direction = moved(springs, 1.0) - springs.minimum
    forward, backward = (
        springs.energy_and_forces(springs.minimum + sign * step * direction)[1] for sign in (1, -1)
    )
    expected = (backward - forward).flatten(1) / (2 * step)
    found = (springs.hessian() @ direction.flatten(1)[..., None])[..., 0]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_forces_turn_with_the_molecule():
    turn = torch.tensor(Rotation.random(random_state=1).as_matrix())
    straight, turned = network(), network(turn=turn)
    pos = moved(straight)
    energy, forces = straight.energy_and_forces(pos)
    energy_turned, forces_turned = turned.energy_and_forces(pos @ turn.T)
    torch.testing.assert_close(energy_turned, energy)
    torch.testing.assert_close(forces_turned, forces @ turn.T)


def test_a_molecule_is_the_same_in_any_batch():
    together, alone = network(), network("H2O")
    water = together.minimum[1, :3] + 0.1
    water[0] += torch.tensor([0.1, 0.0, 0.05])
    padded = together.minimum.clone()
    padded[1, :3] = water
    torch.testing.assert_close(
        together.energy_and_forces(padded)[1][1, :3], alone.energy_and_forces(water[None])[1][0]
    )


@pytest.mark.parametrize("name", [*NAMES, "SiH4", "CH3SH"])
def test_all_but_rigid_motions_are_resisted(name):
    """Also motions out of the plane of a planar molecule, and by springs alone (Si and S)."""
    rigid = 5 if name == "C2H2" else 6
    stiffness = torch.linalg.eigvalsh(network(name).hessian()[0])
    assert float(stiffness[:3].abs().max()) < 1e-9 and float(stiffness[rigid]) > 0.05


def test_where_the_force_field_knows_all_the_curvature_is_its_own():
    springs = network("CH3CH2OH", "SiH4")
    known, unknown = springs.hessian()
    assert (springs.hessian()[1] == springs.springs_hessian()[1]).all()
    assert float(unknown.abs().max()) > 10
    turned = torch.linalg.eigvalsh(known)
    assert float(turned[:6].abs().max()) < 1e-9  # which springs across bonds resist


def test_stiffness_is_that_of_chemistry():
    """A C-H bond is about 30 eV/A^2 stiff, a C=O bond more than twice as much."""
    springs = network("CH3OH", "H2CO")
    first = springs.along[0].max()
    assert 20 < float(first) < 50
    assert float(springs.along[1].max()) > 1.8 * float(first)


def test_align_undoes_a_rigid_motion():
    springs = network()
    turn = torch.tensor(Rotation.random(random_state=2).as_matrix())
    away = (springs.minimum @ turn.T + torch.tensor([3.0, -1.0, 2.0])) * springs.mask[..., None]
    torch.testing.assert_close(springs.align(away), springs.minimum)


def test_weighed_forces_are_the_energy_of_a_harmonic_relaxation():
    springs = network("CH3CH2OH")
    forces = moved(springs, 1.0) - springs.minimum
    stiffness = springs.hessian()[0] + SOFTEST * torch.eye(27, dtype=torch.float64)
    gained = forces.flatten() @ torch.linalg.solve(stiffness, forces.flatten())
    assert float(springs.weighed(forces).square().sum()) == pytest.approx(float(gained))


def test_soft_displacements_have_the_covariance_of_heat():
    springs = network("H2O")
    many = ElasticNetwork(
        springs.minimum[0].repeat(20000, 1), torch.tensor([8, 1, 1]).repeat(20000),
        torch.full((20000,), 3),
    )  # fmt: skip
    torch.manual_seed(0)
    displaced = many.soft_displacements(torch.randn(20000, 3, 3, dtype=torch.float64)).flatten(1)
    expected = torch.linalg.inv(springs.hessian()[0] + SOFTEST * torch.eye(9, dtype=torch.float64))
    torch.testing.assert_close(displaced.T @ displaced / 20000, expected, rtol=0.1, atol=0.02)


def test_nothing_is_a_batch():
    nothing = ElasticNetwork(torch.zeros(0, 3), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    energy, forces = nothing.energy_and_forces(nothing.minimum)
    assert len(energy) == 0 and nothing.weighed(forces).shape == (0, 0)
