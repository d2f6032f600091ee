"""Copies of a batch, evaluated in the same call as the batch."""

import torch
from ase.build import molecule
from conftest import slab, small_model, to_batch

from ocp_physmol.model.copies import Copy


def test_copies_are_structures_of_their_own():
    """They leave the energy alone, and get what they would get by themselves."""
    model = small_model(use_masking=True)
    batch, moved = (to_batch(molecule("H2O"), slab(), molecule("CH4")) for _ in range(2))
    alone = model(batch)
    moved.pos = batch.pos + 0.1 * torch.randn_like(batch.pos)
    expected = model(moved)
    copies = [
        Copy("hidden", ("masked_logits",), masked=torch.ones(len(batch.pos), dtype=torch.bool)),
        Copy("all", ("energy", "forces"), pos=moved.pos),
        Copy("some", ("energy",), pos=moved.pos[3:], chosen=torch.tensor([False, True, True])),
    ]
    out = model(batch, copies=copies)
    assert torch.equal(out["energy"], alone["energy"])
    assert torch.equal(out["forces"], alone["forces"])
    torch.testing.assert_close(out["some"]["energy"], expected["energy"][1:])
    torch.testing.assert_close(out["all"]["energy"], expected["energy"])
    torch.testing.assert_close(out["all"]["forces"], expected["forces"])
    assert out["some"].keys() == {"energy"} and out["hidden"].keys() == {"masked_logits"}


def test_a_batch_may_have_nothing_to_copy():
    copy = Copy("none", ("energy",), pos=torch.zeros(0, 3), chosen=torch.tensor([False]))
    assert small_model()(to_batch(molecule("H2O")), copies=[copy])["none"]["energy"].shape == (0,)
