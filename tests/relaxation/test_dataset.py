"""Relaxations of a data set, with springs, whose minima are known."""

import numpy as np
import pytest
import torch
from ase import Atoms
from conftest import to_data
from springs import Springs

from ocp_physmol.errors import UserError
from ocp_physmol.relaxation.dataset import complaint, require_same_origin, trajectories, written


@pytest.mark.parametrize("save_full_traj", [True, False])
def test_tiny_moves_count(save_full_traj):
    """Far from the origin the last moves are below 1e-5 of the coordinates."""
    minimum = to_data(Atoms("H2", [[5.0, 0, 0], [45, 0, 0]], cell=[50, 50, 50], pbc=True))
    minimum.pos, minimum.cell = minimum.pos.float(), minimum.cell.float()
    start = minimum.clone()
    start.pos = minimum.pos + torch.tensor([[0.0, 0, 0], [0.0002, 0, 0]])
    task = {
        "relaxation_fmax": 1e-4, "relaxation_steps": 50, "save_full_traj": save_full_traj,
        "relax_opt": {"maxstep": 0.1},
    }  # fmt: skip
    (frames,) = trajectories(Springs([minimum]), [start], task)
    assert (len(frames) > 2) == save_full_traj
    assert frames[0].get_distance(0, 1) == pytest.approx(40.0002, abs=2e-5)
    assert abs(frames[-1].get_forces()).max() < 1e-4
    assert frames[-1].get_distance(0, 1) == pytest.approx(40, abs=2e-5)


def test_other_data_of_the_same_name(tmp_path):
    data = tmp_path / "data.lmdb"
    data.write_bytes(b"one")
    origin = {"src": [str(data)], "data": [written(data)]}
    require_same_origin(tmp_path, origin)
    require_same_origin(tmp_path, origin)
    data.write_bytes(b"another")
    with pytest.raises(UserError, match="holds relaxations of another data"):
        require_same_origin(tmp_path, {"src": [str(data)], "data": [written(data)]})


@pytest.mark.parametrize(
    ("distance", "found"),
    [(0.74, None), (0.28, "two of its atoms end 0.28 Å apart"), (np.nan, "has exploded")],
)
def test_an_end_that_is_no_structure(distance, found):
    said = complaint(Atoms("H2", [[0, 0, 0], [0, 0, distance]]))
    assert said is None if found is None else found in said
