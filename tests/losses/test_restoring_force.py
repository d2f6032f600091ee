"""What a pushed molecule is compared with: the springs' forces, or a teacher's that are stored."""

from itertools import compress

import pytest
import torch
from ase.build import molecule
from conftest import slab, to_batch, with_labels

from ocp_physmol.errors import UserError
from ocp_physmol.losses.draws import structure_generators
from ocp_physmol.losses.restoring_force import Push, RestoringForce
from ocp_physmol.pushes import draw


def options(**changed):
    given = {"fn": "restoring_force", "coefficient": 1.0, "noise": 0.12}
    return RestoringForce.Options(**given, **changed)


def pushed(batch, step=0, chosen=None, **changed):
    chosen = [True] * len(batch.natoms) if chosen is None else chosen
    generators = structure_generators(batch, 0, step, "test")
    drawn = list(compress(generators, chosen))
    return Push(batch, torch.tensor(chosen), options(**changed), drawn)


def many(name="CH3CH2OH", count=200):
    batch = to_batch(*[molecule(name)] * count)
    batch.sid = list(range(count))
    return batch


def test_target_is_the_network_s_force():
    push = pushed(many(count=3))
    _, forces = push.network.energy_and_forces(push.network.padded(push.pos))
    torch.testing.assert_close(push.weighed(forces[push.network.mask]), push.target)
    assert (push.weighed(torch.zeros_like(push.pos)) == 0).all()


def test_small_pushes_weigh_less_than_large_ones_but_not_in_proportion(monkeypatch):
    monkeypatch.setattr(draw, "CLEFT", 0.0)
    batch = many()
    push = pushed(batch)
    size = (push.pos - batch.pos).view(200, -1).square().mean(dim=1).sqrt().log()
    slope = torch.cov(torch.stack([size, push.target.norm(dim=1).log()]))[0, 1] / size.var()
    assert float(slope) == pytest.approx(0.5, abs=0.1)


def test_a_molecule_is_pushed_the_same_in_any_batch():
    together = to_batch(molecule("C6H6"), molecule("H2O"))
    alone = to_batch(molecule("H2O"))
    alone.sid = together.sid[1:]
    torch.testing.assert_close(pushed(together).pos[12:], pushed(alone).pos)
    assert not torch.allclose(pushed(alone, step=1).pos, pushed(alone).pos)


@pytest.mark.parametrize("teacher", ["springs", "data"])
def test_only_the_structures_asked_for_are_pushed(teacher):
    batch = with_labels(to_batch(molecule("C6H6"), molecule("H2O")))
    assert pushed(batch, chosen=[False, True], teacher=teacher).pos.shape == (3, 3)
    push = pushed(batch, chosen=[False, False], teacher=teacher)
    assert push.pos.shape == (0, 3) and push.weighed(push.pos).shape == push.target.shape == (0, 0)


def test_an_atom_alone_has_nothing_to_be_pushed():
    assert torch.isfinite(pushed(to_batch(molecule("H"))).target).all()


def test_fixed_atoms_are_refused():
    batch = to_batch(slab())
    batch.fixed[:4] = 1
    with pytest.raises(UserError, match="restoring_force is for free molecules"):
        pushed(batch)


def test_target_is_the_stored_force():
    batch = with_labels(to_batch(molecule("C6H6"), molecule("H2O")), pushes=1)
    push = pushed(batch, teacher="data")
    torch.testing.assert_close(push.pos, batch.pushed_pos[:, 0])
    torch.testing.assert_close(push.weighed(batch.restoring_forces[:, 0]), push.target)


@pytest.mark.parametrize(
    ("changed", "key"),
    [
        ({"teacher": "data"}, "restoring_forces"),
        ({"teacher": "prior"}, "gfn2_forces"),
        ({"teacher": "prior", "frequencies": True}, "gfn2_forces"),
    ],
)
def test_data_without_labels_are_refused(changed, key):
    term = RestoringForce(options(**changed))
    problem = term.problem(to_batch(molecule("H2O"))[0], {"energy", "forces"})
    assert f"teacher '{changed['teacher']}'" in problem and f"no {key}" in problem
    assert "ocp-physmol data curvature" in problem


def test_springs_are_not_corrected_to_frequencies():
    with pytest.raises(ValueError, match="'frequencies' needs the teacher 'data' or 'prior'"):
        options(frequencies=True)
