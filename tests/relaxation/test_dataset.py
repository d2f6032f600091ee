"""Relaxations of a data set, with springs, whose minima are known."""

from types import SimpleNamespace

import pytest
import torch
from ase import Atoms
from conftest import to_data
from springs import Springs

from ocp_physmol.relaxation import dataset as relaxations


def trainer_of(minima: list, **task) -> SimpleNamespace:
    """A trainer whose model has these minima."""
    springs = Springs(minima)
    config = {"task": {"relax_opt": {"maxstep": 0.1}, **task}}
    return SimpleNamespace(config=config, device=springs.device, predict=springs.predict)


@pytest.mark.parametrize("save_full_traj", [True, False])
def test_tiny_moves_count(save_full_traj):
    """Far from the origin the last moves are below 1e-5 of the coordinates."""
    minimum = to_data(Atoms("H2", [[5.0, 0, 0], [45, 0, 0]], cell=[50, 50, 50], pbc=True))
    minimum.pos, minimum.cell = minimum.pos.float(), minimum.cell.float()
    start = minimum.clone()
    start.pos = minimum.pos + torch.tensor([[0.0, 0, 0], [0.0002, 0, 0]])
    trainer = trainer_of(
        [minimum], relaxation_fmax=1e-4, relaxation_steps=50, save_full_traj=save_full_traj
    )
    (frames,) = relaxations.relax(trainer, [start])
    assert abs(frames[-1].get_forces()).max() < 1e-4
    assert frames[-1].get_distance(0, 1) == pytest.approx(40, abs=2e-5)
