"""Neighbour search against ASE, and what it must not depend on."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.neighborlist import neighbor_list
from conftest import slab, tiny_crystal, to_batch

from ocp_physmol.model import graph as graphs
from ocp_physmol.model.graph import find_neighbors, measure

CUTOFF = 5.0


def skewed():
    cell = [[3.1, 0.0, 0.0], [2.9, 2.0, 0.0], [1.0, -1.5, 4.0]]
    atoms = Atoms("NaCl", positions=[[0.1, 0.2, 0.3], [9.0, -7.0, 2.0]], cell=cell, pbc=True)
    return atoms


def mixed_periodicity():
    atoms = graphene("C2", size=(2, 1, 1), vacuum=None)
    atoms.pbc = [True, True, False]
    return atoms


def boxed(name="C6H6", box=30.0):
    atoms = molecule(name, cell=[box] * 3, pbc=True)
    atoms.center()
    return atoms


STRUCTURES = {
    "molecule": lambda: molecule("C6H6"),
    "molecule in a box": boxed,
    "molecule across the boundary": lambda: boxed(box=8.0),
    "slab": slab,
    "one atom and its images": tiny_crystal,
    "skewed cell, atoms outside": skewed,
    "periodic in two directions, no third vector": mixed_periodicity,
    "lone atom": lambda: Atoms("He"),
}


def graph_of(*structures, cutoff=CUTOFF):
    batch = to_batch(*structures)
    near = find_neighbors(batch.pos, batch.natoms, cutoff, batch.cell, batch.pbc)
    return measure(batch.pos, near, cutoff)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("large", [1000, 0], ids=["all pairs", "cell list"])
def test_same_neighbours_as_ase(name, large, monkeypatch):
    monkeypatch.setattr(graphs, "LARGE", large)
    atoms = STRUCTURES[name]()
    graph = graph_of(atoms)
    edges = 2 * len(graph.pair_distance)
    center, distance = neighbor_list("id", atoms, CUTOFF)
    assert edges == len(center)
    own_center, own_distance = graph.center[:edges].numpy(), graph.distance[:edges].numpy()
    for atom in range(len(atoms)):
        np.testing.assert_allclose(
            np.sort(own_distance[own_center == atom]), np.sort(distance[center == atom]), atol=1e-9
        )


def test_batch_holds_the_graphs_of_its_structures():
    together = graph_of(*(make() for make in STRUCTURES.values()))
    first = 0
    for number, make in enumerate(STRUCTURES.values()):
        atoms = make()
        alone = graph_of(atoms)
        own = together.batch[together.pair_index[0]] == number
        assert int(own.sum()) == len(alone.pair_distance)
        np.testing.assert_allclose(
            np.sort(together.pair_distance[own].numpy()),
            np.sort(alone.pair_distance.numpy()),
            atol=1e-9,
        )
        assert (
            (together.pair_index[:, own] >= first)
            & (together.pair_index[:, own] < first + len(atoms))
        ).all()
        first += len(atoms)


def test_every_atom_has_one_edge_to_itself():
    graph = graph_of(slab(), molecule("H2O"))
    own = slice(2 * len(graph.pair_distance), None)
    atoms = torch.arange(len(graph.batch))
    assert torch.equal(graph.center[own], atoms) and torch.equal(graph.neighbor[own], atoms)
    assert (graph.distance[own] == 0).all() and (graph.envelope[own] == 1).all()


def test_pbc_flags_switch_images_off():
    atoms = tiny_crystal()
    atoms.pbc = False
    assert len(graph_of(atoms).pair_distance) == 0


def test_large_crystal_through_the_cell_list():
    atoms = bulk("Cu", cubic=True).repeat(7)  # 1372 atoms
    assert len(atoms) > graphs.LARGE
    graph = graph_of(atoms, cutoff=3.0)
    assert len(graph.pair_distance) == 6 * len(atoms)  # twelve nearest neighbours each
