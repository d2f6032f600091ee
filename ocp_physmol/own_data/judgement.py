"""Errors of a model on held-out frames, beside those without a model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch_geometric.data import Data

from ocp_physmol.own_data.reference import Reference
from ocp_physmol.relaxation.predictor import Predictor

ROWS = {
    "energy_mae_mev": "energy MAE (meV)",
    "energy_rmse_mev": "energy RMSE (meV)",
    "energy_mae_mev_per_atom": "energy MAE (meV/atom)",
    "force_mae_mev_per_a": "force MAE (meV/Å)",
    "force_rmse_mev_per_a": "force RMSE (meV/Å)",
}


@dataclass(frozen=True)
class Judgement:
    """Labels and predictions: energies [2, B] (eV) without those of the elements; the components
    of the forces on free atoms [2, K] (eV/Angstrom)."""

    pairs: tuple[np.ndarray, np.ndarray]
    columns: dict[str, dict[str, float]]  # errors of the model, and of no model, by ROWS
    frames: int


def judge(predictor: Predictor, frames: Sequence[Data], reference: Reference) -> Judgement:
    """Predict labelled frames, and compare."""
    predicted, forces = predictor.energies_and_forces(frames, title="Held-out frames")
    every = list(frames)
    natoms = np.array([int(frame.natoms) for frame in every])
    offsets = reference.energies(every)
    labels = np.array([float(frame.energy) for frame in every])
    free = np.concatenate([frame.fixed.numpy() == 0 for frame in every])
    true_forces = np.concatenate([frame.forces.numpy() for frame in every])[free].ravel()
    model_forces = np.concatenate(forces)[free].ravel()
    energy_pairs = np.stack([labels, predicted]) - offsets
    force_pairs = np.stack([true_forces, model_forces])
    columns = {
        "model": _errors(predicted - labels, model_forces - true_forces, natoms),
        "one energy per element, no force": _errors(offsets - labels, -true_forces, natoms),
    }
    return Judgement((energy_pairs, force_pairs), columns, len(every))


def _errors(energy: np.ndarray, forces: np.ndarray, natoms: np.ndarray) -> dict[str, float]:
    """Of energies [B] (eV) of frames with so many atoms, and of components of forces (eV/Å)."""
    values = {
        "energy_mae_mev": np.abs(energy).mean(),
        "energy_rmse_mev": np.sqrt((energy**2).mean()),
        "energy_mae_mev_per_atom": np.abs(energy / natoms).mean(),
        "force_mae_mev_per_a": np.abs(forces).mean(),
        "force_rmse_mev_per_a": np.sqrt((forces**2).mean()),
    }
    return {name: 1000 * float(value) for name, value in values.items()}
