"""The vectors that tokens carry beside their embeddings."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from conftest import slab, small_model, to_batch
from scipy.spatial.transform import Rotation

CHANNELS = 4


def vectors_of(model, *structures) -> torch.Tensor:
    """The vectors [T, 3, c] after the last block, of all tokens."""
    found = []
    last = model.energy.attention.blocks[-1]
    handle = last.register_forward_hook(lambda module, inputs, out: found.append(out[1]))
    with torch.no_grad():
        model(to_batch(*structures), outputs=("energy",))
    handle.remove()
    return found[0].unflatten(-1, (3, CHANNELS))


@pytest.mark.parametrize("use_cls", [False, True])
def test_vectors_turn_with_the_structure(use_cls):
    model = small_model(vector_channels=CHANNELS, use_cls=use_cls)
    rotation = Rotation.random(random_state=0).as_matrix()
    structures = [molecule("CH3CH2OH"), slab()]
    turned = [atoms.copy() for atoms in structures]
    for atoms in turned:
        atoms.set_cell(atoms.cell.array @ rotation.T)
        atoms.positions = atoms.positions @ rotation.T
    before, after = vectors_of(model, *structures), vectors_of(model, *turned)
    assert before.abs().amax(1).min() > 1e-6
    expected = torch.einsum("xy,tyc->txc", torch.tensor(rotation), before)
    torch.testing.assert_close(after, expected, rtol=1e-9, atol=1e-9)


def bent(degrees: float) -> Atoms:
    """Two hydrogens at 0.9 Angstrom from an oxygen, and more than 1.2 from each other."""
    half = np.radians(degrees) / 2
    ends = 0.9 * np.array([[np.sin(half), np.cos(half), 0], [-np.sin(half), np.cos(half), 0]])
    return Atoms("OH2", [[0, 0, 0], *ends])


@pytest.mark.parametrize(("channels", "sees"), [(0, False), (CHANNELS, True)])
def test_one_block_sees_angles_with_vectors_alone(channels, sees):
    model = small_model(cutoff=1.2, num_layers=1, readout="atom", vector_channels=channels)
    for parameter in model.energy.attention.parameters():
        torch.nn.init.normal_(parameter)
    with torch.no_grad():
        energies = model(to_batch(bent(90), bent(150)), outputs=("energy",))["energy"]
    assert (abs(energies[0] - energies[1]) > 1e-6) == sees
