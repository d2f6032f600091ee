"""Section 4.2: mean absolute errors of energy and forces."""

from __future__ import annotations

import torch
from tqdm import tqdm

from ocp_physmol.relaxation.predictor import batches, quiet


def energy_and_force_errors(predictor, structures, batch_size: int = 64, name: str = "") -> dict:
    """MAE_E and MAE_F over labelled structures; on QM9 the forces are those left at the minima.

    Returns:
        `energy_mae_mev`, the mean over structures, and `force_mae_ev_per_a`, the mean over atoms
        and components; with them `energy_errors_mev` and `force_norms_ev_per_a`, all values.
    """
    energies, components, norms = [], [], []
    bar = tqdm(total=len(structures), desc=f"{name} errors", unit=" molecules", mininterval=1)
    for batch in batches(structures, batch_size):
        with quiet():
            out = predictor.predict(batch, per_image=False, disable_tqdm=True)
        energies.append((out["energy"].cpu().view(-1) - batch.energy.cpu().view(-1)).abs() * 1000)
        error = out["forces"].cpu() - batch.forces.cpu()
        components.append(error.abs().flatten())
        norms.append(error.norm(dim=-1))
        bar.update(len(batch.natoms))
    bar.close()
    return {
        "energy_mae_mev": float(torch.cat(energies).mean()),
        "force_mae_ev_per_a": float(torch.cat(components).mean()),
        "energy_errors_mev": torch.cat(energies).tolist(),
        "force_norms_ev_per_a": torch.cat(norms).tolist(),
    }
