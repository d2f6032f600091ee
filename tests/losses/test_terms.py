"""The terms one by one: what each compares, what it asks for, and which data it is for."""

import pytest
import torch
from ase.build import bulk, molecule
from conftest import to_batch, to_data
from fairchem.core.common import distutils
from fairchem.core.common.registry import registry

from ocp_physmol.losses.draws import structure_generators
from ocp_physmol.losses.term import MeanOverRanks, Term, active_entries, term_class
from ocp_physmol.model.copies import Copy, merged, renamed

NAMES = {"masked_atoms": {"mask_ratio": 0.3}, "zero_force": {}, "bound": {"noise": 0.5},
         "restoring_force": {"noise": 0.1}}  # fmt: skip


def make(name: str, **more) -> Term:
    cls = registry.get_loss_class(name)
    return cls(cls.Options(fn=name, coefficient=1.0, **{**NAMES[name], **more}))


def items(name: str, prediction: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return make(name)(prediction, target, torch.tensor([len(prediction)]))


def test_masked_atoms_is_the_negative_log_likelihood():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    target = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    expected = -torch.log(torch.softmax(logits, -1)[[0, 1], [0, 1]])
    torch.testing.assert_close(items("masked_atoms", logits, target), expected)


def test_zero_force_is_the_squared_norm():
    forces = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert items("zero_force", forces, torch.zeros(2, 3)).tolist() == [25.0, 0.0]


def test_bound_counts_only_displaced_structures_that_lie_lower():
    energy, displaced = torch.tensor([1.0, 1.0]), torch.tensor([0.2, 3.0])
    assert items("bound", energy, displaced).tolist() == pytest.approx([0.8, 0.0])


def test_restoring_force_is_the_norm_of_the_difference():
    forces, target = torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    found = items("restoring_force", forces, target)
    assert found.tolist() == pytest.approx([5.0, 0.0], abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_every_term_is_found_by_its_name(name):
    assert issubclass(term_class({"fn": name}), Term)
    assert term_class({"fn": "mae"}) is None


def test_a_coefficient_of_zero_switches_off():
    entries = [{"a": {"coefficient": 0}, "b": {"coefficient": 1}}, {"c": {"coefficient": 0.0}}]
    assert list(active_entries(entries)) == ["b"]


def test_a_loss_without_items_is_zero_and_differentiable():
    prediction = torch.zeros(0, 3, requires_grad=True)
    loss = MeanOverRanks(make("zero_force"), None)
    value = loss(prediction, prediction.detach(), torch.tensor([1]))
    value.backward()
    assert float(value) == 0


def test_what_is_no_number_is_no_loss_of_zero():
    forces = torch.tensor([[float("nan")] * 3, [1.0, 0.0, 0.0]])
    loss = MeanOverRanks(make("zero_force"), None)
    assert loss(forces, torch.zeros(2, 3), torch.tensor([2])).isnan()


def test_a_sum_is_over_all_ranks(monkeypatch):
    """Gradients are averaged over ranks afterwards."""
    forces = torch.tensor([[3.0, 4.0, 0.0]], requires_grad=True)
    natoms = torch.tensor([1])
    monkeypatch.setattr(distutils, "get_world_size", lambda: 4)
    loss = MeanOverRanks(make("zero_force"), "sum")
    assert float(loss(forces, torch.zeros(1, 3), natoms)) == 4 * 25
    with torch.no_grad():
        assert float(loss(forces, torch.zeros(1, 3), natoms)) == 25


# ---- copies


def labelled(*structures):
    batch = to_batch(*structures)
    batch.forces = torch.zeros_like(batch.pos)
    return batch


@pytest.mark.parametrize("name", ["bound", "restoring_force"])
def test_only_structures_at_equilibrium_are_displaced(name):
    batch = labelled(molecule("H2O"), molecule("CH4"))
    batch.forces[0] = 1.0
    copy = make(name).copy(batch, structure_generators(batch, 0, 0, name))
    assert copy.chosen.tolist() == [False, True] and copy.pos.shape == (5, 3)


def test_zero_force_is_of_free_atoms_at_equilibrium():
    batch = labelled(molecule("H2O"), molecule("CH4"))
    batch.forces[0] = 1.0
    batch.fixed[4] = 1
    forces = torch.arange(24.0).view(8, 3)
    prediction, target = make("zero_force").compare({"forces": forces}, batch, None)
    assert torch.equal(prediction, forces[[3, 5, 6, 7]]) and not target.any()


def test_bound_compares_the_displaced_structures_with_themselves():
    batch = labelled(molecule("H2O"), molecule("CH4"), molecule("NH3"))
    batch.forces[0] = 1.0
    copy = make("bound").copy(batch, structure_generators(batch, 0, 0, "bound"))
    out = {"energy": torch.tensor([1.0, 2.0, 3.0]), "bound": {"energy": torch.tensor([5.0, 6.0])}}
    own, other = make("bound").compare(out, batch, copy)
    assert own.tolist() == [2.0, 3.0] and other.tolist() == [5.0, 6.0]


@pytest.mark.parametrize("name", ["bound", "zero_force"])
def test_relaxed_positions_are_the_equilibrium_where_the_data_have_them(name):
    batch = to_batch(molecule("H2O"))
    batch.pos_relaxed = batch.pos + 0.1
    copy = make(name).copy(batch, structure_generators(batch, 0, 0, name))
    assert copy.pos is batch.pos_relaxed and copy.chosen is None


def test_copies_of_one_name_are_evaluated_once():
    pos = torch.zeros(3, 3)
    one, other = Copy("relaxed", ("forces",), pos), Copy("relaxed", ("energy",), pos)
    (both,) = merged([one, other])
    assert both.pos is pos and set(both.outputs) == {"energy", "forces"}


@pytest.mark.parametrize("name", ["bound", "restoring_force", "masked_atoms"])
def test_two_terms_of_one_class_have_copies_of_their_own(name):
    batch = labelled(molecule("H2O"), molecule("CH4"))
    copies = {
        entry: make(name).copy(batch, structure_generators(batch, 0, 0, entry))
        for entry in ("near", "far")
    }
    own = renamed(copies)
    assert {n: c.name for n, c in own.items()} == {"near": "near", "far": "far"}
    assert len(merged(own.values())) == 2
    assert renamed({"near": copies["near"]})["near"] is copies["near"]


# ---- which data a term is for


@pytest.mark.parametrize("name", ["zero_force", "bound", "restoring_force"])
def test_somebody_must_know_the_minima(name):
    entry = to_data(molecule("H2O"))
    assert "neither pos_relaxed nor forces" in make(name).problem(entry, {"energy"})
    assert make(name).problem(entry, {"energy", "forces"}) is None


def test_crystals_are_refused_and_molecules_in_a_box_are_not():
    term, labels = make("restoring_force"), {"energy", "forces"}
    assert term.problem(to_data(molecule("H2O", vacuum=10.0, pbc=True)), labels) is None
    assert "bonded across the boundaries" in term.problem(to_data(bulk("Cu", cubic=True)), labels)
    relaxed = to_data(molecule("H2O"))
    relaxed.pos_relaxed = relaxed.pos
    assert "pos_relaxed beside other positions" in term.problem(relaxed, labels)
