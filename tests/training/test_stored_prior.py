"""What a training with a prior needs: named before the first step, with the cure."""

from types import SimpleNamespace

import pytest
from ase.build import molecule
from conftest import to_data

from ocp_physmol.errors import UserError
from ocp_physmol.losses.bound import Bound
from ocp_physmol.losses.masked_atoms import MaskedAtoms
from ocp_physmol.losses.restoring_force import RestoringForce
from ocp_physmol.losses.zero_force import ZeroForce
from ocp_physmol.training.stored_prior import require_stored_prior


def term(kind, name, **options):
    given = kind.Options(fn=name, coefficient=1.0, **options)
    return {name: SimpleNamespace(loss_fn=kind(given))}


def trainer(prior="gfn2", terms=None, stdev=1.0, references=True, stored=True):
    entry = to_data(molecule("H2O"))
    if stored:
        entry.gfn2_energy, entry.gfn2_forces, entry.gfn2_pos = 0.0, entry.pos, entry.pos
    return SimpleNamespace(
        config={"model": {"prior": prior} if prior else {}},
        train_dataset=[entry],
        elementrefs={"energy": None} if references else {},
        terms=terms or {},
        normalizers={"energy": SimpleNamespace(rmsd=stdev)},
    )


@pytest.mark.parametrize(
    "terms",
    [
        {},
        term(RestoringForce, "restoring_force", noise=0.1, teacher="data"),
        term(RestoringForce, "restoring_force", noise=0.1, teacher="prior"),
        term(ZeroForce, "zero_force"),
        term(MaskedAtoms, "masked_atoms", mask_ratio=0.3),
    ],
)
def test_what_is_stored_is_enough(terms):
    require_stored_prior(trainer(terms=terms))


def test_a_prior_that_the_model_lacks_teaches_nothing():
    terms = term(RestoringForce, "restoring_force", noise=0.1, teacher="prior")
    with pytest.raises(UserError, match="the model has no prior"):
        require_stored_prior(trainer(None, terms))


def test_without_a_prior_nothing_is_needed():
    terms = term(Bound, "bound", noise=0.5)
    require_stored_prior(trainer(None, terms, 2.0, references=False, stored=False))


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ({"stored": False}, "needs 'gfn2_energy'.* ocp-physmol data curvature"),
        ({"references": False}, "add dataset.train.transforms.element_references"),
        ({"stdev": 2.0}, "set stdev: 1 for energy"),
        ({"terms": term(Bound, "bound", noise=0.5)}, "loss_functions.bound"),
        (
            {"terms": term(RestoringForce, "restoring_force", noise=0.1)},
            "loss_functions.restoring_force .* teacher 'prior'",
        ),
    ],
)
def test_what_is_lacking_is_named_with_the_cure(lacking, message):
    with pytest.raises(UserError, match=message):
        require_stored_prior(trainer(**lacking))
