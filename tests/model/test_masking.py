"""Masked atoms: nothing of their identity is left, and their neighbours are seen."""

import torch
from ase import Atoms
from conftest import slab, small_model, to_batch

from ocp_physmol.model.copies import Copy


def masked_logits(model, batch, masked):
    copy = Copy("hidden", ("masked_logits",), masked=masked)
    return model(batch, copies=[copy])["hidden"]["masked_logits"]


def test_identity_of_a_masked_atom_is_unreachable(variant):
    """Whatever is masked, every output of the masked copy is the same, to the last bit."""
    model = small_model(use_masking=True, **variant)
    logits = []
    for symbol in ("C", "H", "Pt"):
        atoms = slab()
        atoms.symbols[-2] = symbol
        masked = torch.zeros(len(atoms), dtype=torch.bool)
        masked[-2] = True
        with torch.no_grad():
            logits.append(masked_logits(model, to_batch(atoms), masked))
    assert torch.equal(logits[0], logits[1]) and torch.equal(logits[0], logits[2])


def test_visible_atoms_are_seen_by_the_masked_one():
    model = small_model(use_masking=True)
    logits = []
    for symbol in ("O", "S"):
        batch = to_batch(Atoms(f"C{symbol}", [[0, 0, 0], [0, 0, 1.2]]))
        logits.append(masked_logits(model, batch, torch.tensor([True, False]))[0])
    assert not torch.allclose(logits[0], logits[1])
