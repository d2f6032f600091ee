"""Errors on held-out frames, against numbers worked out by hand."""

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from ocp_physmol.model.elements import NUM_TYPES
from ocp_physmol.own_data.judgement import judge
from ocp_physmol.own_data.reference import Reference


def frame(energy: float, natoms: int, fixed: int = 0) -> Data:
    """Hydrogen atoms with forces of 1 eV/Angstrom along x."""
    forces = torch.zeros(natoms, 3)
    forces[:, 0] = 1.0
    held = torch.tensor([1] * fixed + [0] * (natoms - fixed))
    return Data(energy=torch.tensor([energy]), forces=forces, fixed=held, natoms=natoms,
                atomic_numbers=torch.ones(natoms))  # fmt: skip


class Wrong:
    """Predicts energies that are 2 eV too low, and forces of 4 eV/Angstrom along x."""

    def energies_and_forces(self, frames, title):
        forces = [np.tile(np.float32([4, 0, 0]), (int(f.natoms), 1)) for f in frames]
        return np.array([float(f.energy) - 2 for f in frames]), forces


def test_errors_of_a_wrong_model():
    """Fixed atoms do not count; each structure counts once, and each component."""
    frames = [frame(-10.0, 2, fixed=1), frame(-21.0, 4)]
    energies = np.where(np.arange(NUM_TYPES) == 1, -5.0, 0.0)
    reference = Reference(energies, energies < 0, cells_vary=False)
    result = judge(Wrong(), frames, reference)
    model, nothing = result.columns.values()
    assert model["energy_mae_mev"] == model["energy_rmse_mev"] == pytest.approx(2000)
    assert model["energy_mae_mev_per_atom"] == pytest.approx((1000 + 500) / 2)
    assert model["force_mae_mev_per_a"] == pytest.approx(1000)
    assert model["force_rmse_mev_per_a"] == pytest.approx(1000 * np.sqrt(3))
    assert nothing["energy_mae_mev"] == pytest.approx(500)
    assert nothing["energy_rmse_mev"] == pytest.approx(1000 * np.sqrt(0.5))
    assert nothing["force_mae_mev_per_a"] == pytest.approx(1000 / 3)
    energies, forces = result.pairs
    np.testing.assert_allclose(energies, [[0, -1], [-2, -3]])
    assert result.frames == 2 and forces.shape == (2, 3 * 5)
