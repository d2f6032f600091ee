"""Section 4.2: mean absolute errors of energy and forces."""

from collections.abc import Sequence

import numpy as np
from torch_geometric.data import Data

from ocp_physmol.relaxation.predictor import Predictor


def energy_and_force_errors(
    predictor: Predictor, structures: Sequence[Data], batch_size: int = 64, name: str = ""
) -> dict:
    """MAE_E and MAE_F over labelled structures; on QM9 the forces are those left at the minima.

    Structures without an energy, which a calculator may refuse, do not count.

    Returns:
        `energy_mae_mev`, the mean over structures, and `force_mae_ev_per_a`, the mean over atoms
        and components; with them `energy_errors_mev` and `force_norms_ev_per_a`, all values.
    """
    energies, forces = predictor.energies_and_forces(structures, batch_size, f"{name} errors")
    labels = [(float(s.energy), s.forces.numpy()) for s in structures]
    energy_errors = 1000 * np.abs(energies - [energy for energy, _ in labels])
    force_errors = np.concatenate(forces) - np.concatenate([force for _, force in labels])
    return {
        "energy_mae_mev": float(np.nanmean(energy_errors)),
        "force_mae_ev_per_a": float(np.nanmean(np.abs(force_errors))),
        "energy_errors_mev": energy_errors.tolist(),
        "force_norms_ev_per_a": np.linalg.norm(force_errors, axis=1).tolist(),
    }
