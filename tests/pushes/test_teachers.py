"""What teachers say of pushed molecules, in batches and of those chosen alone."""

from itertools import compress

import numpy as np
import torch
from ase.build import molecule
from conftest import to_batch, with_labels

from ocp_physmol.losses.draws import structure_generators
from ocp_physmol.model.graph import find_neighbors
from ocp_physmol.model.prior import Prior
from ocp_physmol.pushes.elastic_network import ElasticNetwork
from ocp_physmol.pushes.stretches import Stretches, stretch_forces
from ocp_physmol.pushes.teachers import pushed_by, stored_push

SPRINGS = Stretches({(1, 6): (-3.0, 20.0), (1, 8): (5.0, 0.0), (6, 8): (7.0, 1.0)})


def network_of(batch, chosen):
    atoms = chosen[batch.batch]
    return ElasticNetwork(batch.pos[atoms], batch.atomic_numbers[atoms], batch.natoms[chosen])


def with_springs(batch):
    """The batch with springs along all bonds, as PyG collates them."""
    found = [
        SPRINGS.of_bonds(entry.atomic_numbers.numpy(), entry.pos.numpy())
        for entry in batch.to_data_list()
    ]
    first = batch.ptr[:-1].tolist()
    shifted = [one["stretch_index"] + start for one, start in zip(found, first)]
    batch.stretch_index = torch.cat(shifted, dim=1)
    batch.stretch_stiffness = torch.cat([one["stretch_stiffness"] for one in found])
    return batch


def test_stored_pushes_stay_together_with_their_labels():
    batch = with_labels(to_batch(*map(molecule, ("C6H6", "H2O", "CH4"))))
    chosen = torch.tensor([True, False, True])
    which = set()
    for step in range(20):
        generators = structure_generators(batch, 0, step, "test")
        drawn = list(compress(generators, chosen.tolist()))
        found = stored_push(batch, chosen, drawn)
        atoms = chosen[batch.batch]
        own = found["own_energy"].div(100, rounding_mode="floor")  # of each molecule, its push
        assert (found["own_energy"] - 100 * own).tolist() == [0, 2]
        push = own[torch.tensor([0] * 12 + [1] * 5)]
        torch.testing.assert_close(found["pos"][:, 0], batch.pos[atoms][:, 0] + 0.1 * (1 + push))
        label = torch.arange(len(batch.pos))[atoms] + 100 * push
        torch.testing.assert_close(found["restoring"], label[:, None].expand(-1, 3))
        torch.testing.assert_close(found["own_forces"], -found["restoring"])
        assert found["own_pos"] is found["pos"]
        which |= set(own.tolist())
    assert which == {0, 1, 2}


def prior_push(batch, chosen, **options):
    network = network_of(batch, chosen)
    generators = [np.random.default_rng(k) for k in range(int(chosen.sum()))]
    return network, pushed_by("prior", network, batch, chosen, 0.1, generators, **options)


def test_a_network_cancels_the_prior_s_force_wherever_a_molecule_is_pushed():
    batch = to_batch(*map(molecule, ("C2H6", "H2O", "CH4")))
    batch.gfn2_forces = torch.randn_like(batch.pos)
    chosen = torch.tensor([True, False, True])
    network, pushed = prior_push(batch, chosen)
    expected = -batch.gfn2_forces[chosen[batch.batch]]
    torch.testing.assert_close(pushed.forces[network.mask], expected)
    assert (pushed.pos - network.minimum).abs().amax((1, 2)).min() > 1e-3


def test_the_prior_is_left_out_where_molecules_are_pushed():
    batch = to_batch(*map(molecule, ("C2H6", "CH4")))
    batch.gfn2_forces = torch.randn_like(batch.pos)
    network, pushed = prior_push(batch, torch.tensor([True, True]))
    batch.pos = pushed.pos[network.mask]
    batch.update(pushed.stored)
    neighbors = find_neighbors(batch.pos, batch.natoms, 5.0)
    energy, forces = Prior("gfn2")(batch, neighbors, training=True)
    assert (energy == 0).all() and (forces == 0).all()


def test_springs_of_bonds_come_on_top():
    batch = with_springs(to_batch(*map(molecule, ("C2H6", "H2O", "CH3OH"))))
    batch.gfn2_forces = torch.randn_like(batch.pos)
    chosen = torch.tensor([False, True, True])
    _, plain = prior_push(batch, chosen)
    _, stiffer = prior_push(batch, chosen, frequencies=True)
    torch.testing.assert_close(stiffer.pos, plain.pos)
    added = stiffer.forces - plain.forces
    assert added.abs().amax((1, 2)).min() > 1e-3
    torch.testing.assert_close(added.sum(1), torch.zeros_like(added[:, 0]), atol=1e-5, rtol=0)


def test_springs_are_those_of_the_molecules_chosen():
    together = with_springs(to_batch(*map(molecule, ("C2H6", "H2O", "CH3OH"))))
    alone = with_springs(to_batch(molecule("CH3OH")))
    chosen, moved = torch.tensor([True, False, True]), 1.05 * alone.pos
    pos = torch.cat([together.pos[:8], moved])
    expected = stretch_forces(alone, torch.tensor([True]), moved)
    torch.testing.assert_close(stretch_forces(together, chosen, pos)[8:], expected)
