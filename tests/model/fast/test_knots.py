"""Filters read between knots follow the networks, smoothly and up to the cutoff."""

import pytest
import torch
from ase.build import molecule

from ocp_physmol.model.fast.knots import Grid, Knots, Tables
from ocp_physmol.model.graph import find_neighbors, measure
from ocp_physmol.model.radial import RadialBasis
from tests.conftest import to_batch

CUTOFF = 5.0


@pytest.fixture(params=[16, 32])
def basis(request) -> RadialBasis:
    torch.manual_seed(0)
    return RadialBasis(request.param, CUTOFF).double()


def placed(basis, batch, graph, filters) -> Knots:
    """Where the edges read the network `filters`."""
    grid = Grid(basis, batch.atomic_numbers.unique())
    return Tables.of(grid, [filters(grid.psi)]).place(batch.atomic_numbers, graph)


def read(knots) -> torch.Tensor:
    """The filter [E, C] of every edge."""
    rows = knots.first[:, None] + torch.arange(4)
    return (knots.weight[..., None] * knots.tables[0][rows]).sum(1)


def network(num_rbf: int) -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(num_rbf, 6), torch.nn.SiLU()).double()


def graph_of(*structures):
    batch = to_batch(*structures)
    near = find_neighbors(batch.pos, batch.natoms, CUTOFF, batch.cell, batch.pbc)
    return batch, measure(batch.pos, near, CUTOFF)


def carbon_monoxide(distance: float):
    atoms = molecule("CO")
    atoms.positions[:] = [[0, 0, 0], [0, 0, distance]]
    return atoms


def test_filters_follow_the_network(basis):
    batch, graph = graph_of(molecule("CH3CH2OH"), molecule("H2O"), carbon_monoxide(CUTOFF - 0.01))
    filters = network(basis.num_rbf)
    center_type = batch.atomic_numbers[graph.center]
    expected = filters(basis(center_type, graph.distance, graph.envelope))
    found = read(placed(basis, batch, graph, filters))
    error = (found - expected).abs().amax(1) / expected.std()
    assert error[graph.distance > 0.9].max() < 5e-4  # where atoms meet
    assert error.max() < 1e-2  # in the same place, where basis functions are steepest


def test_weights_sum_to_one_and_stay_on_the_table(basis):
    batch, graph = graph_of(molecule("CH3CH2OH"), carbon_monoxide(CUTOFF - 1e-9))
    knots = placed(basis, batch, graph, network(basis.num_rbf)).append(3)
    torch.testing.assert_close(knots.weight.sum(1), torch.ones(len(knots.weight)).double())
    rows = len(knots.tables[0])
    assert knots.first.min() >= 0
    assert knots.first[:-3].max() + 3 < rows
    assert (knots.first[-3:] == rows).all()


def test_twice_continuously_differentiable(basis):
    """Value, slope and curvature agree on both sides of a knot."""
    filters = network(basis.num_rbf)
    knot = 60 * Grid(basis, torch.tensor([6, 8])).spacing

    def derivatives(d):
        batch = to_batch(carbon_monoxide(d))
        pos = batch.pos.requires_grad_()
        graph = measure(pos, find_neighbors(pos, batch.natoms, CUTOFF), CUTOFF)
        value = read(placed(basis, batch, graph, filters)).sum()
        (slope,) = torch.autograd.grad(value, pos, create_graph=True)
        (curvature,) = torch.autograd.grad(slope[1, 2], pos)
        return torch.stack([value, slope[1, 2], curvature[1, 2]]).detach()

    torch.testing.assert_close(
        derivatives(knot - 1e-7), derivatives(knot + 1e-7), atol=1e-4, rtol=1e-4
    )


def test_types_that_no_atom_has_change_nothing(basis):
    """Those of a hidden atom, or of another copy of the batch."""
    batch, graph = graph_of(molecule("H2O"))
    filters = network(basis.num_rbf)
    grid = Grid(basis, torch.tensor([0, 1, 6, 8, 9]))
    more = Tables.of(grid, [filters(grid.psi)]).place(batch.atomic_numbers, graph)
    torch.testing.assert_close(read(more), read(placed(basis, batch, graph, filters)))


def test_gradients_reach_the_basis_only_in_training(basis):
    batch, graph = graph_of(molecule("H2O"))
    filters = network(basis.num_rbf)
    for trained in (True, False):
        with torch.set_grad_enabled(trained):
            knots = placed(basis, batch, graph, filters)
        assert knots.tables[0].requires_grad == trained
