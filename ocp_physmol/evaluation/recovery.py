"""Section 4.3: does a relaxation find its way back to the minimum it was pushed away from?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from fairchem.core.common.relaxation.ml_relaxation import ml_relax
from tqdm import tqdm

from ocp_physmol.evaluation.predictor import batches, quiet


@dataclass(frozen=True)
class Protocol:
    """How the minima are perturbed and relaxed; Delta P means nothing without it."""

    noise: float = 0.1  # Angstrom, standard deviation of every coordinate
    steps: int = 200  # at most, of fairchem's batched L-BFGS
    fmax: float = 0.03  # eV/Angstrom, largest force on an atom of a converged structure
    maxstep: float = 0.1  # Angstrom, that an atom moves in one step
    seed: int = 0


def align(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Move `positions` [n, 3] rigidly, without reflection, onto `reference` [n, 3] (Kabsch)."""
    center = reference.mean(axis=0)
    positions = positions - positions.mean(axis=0)
    u, _, vt = np.linalg.svd((reference - center).T @ positions)
    handed = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    return positions @ (u @ handed @ vt).T + center


def mean_displacement(positions: np.ndarray, reference: np.ndarray) -> float:
    """Delta P of one structure: mean distance of its atoms from `reference`, aligned, in A."""
    return float(np.linalg.norm(align(positions, reference) - reference, axis=1).mean())


def recover(
    predictor, structures, protocol: Protocol, batch_size: int = 32, name: str = ""
) -> dict:
    """Perturb each structure, relax it with the model, and compare with where it came from.

    Returns:
        `delta_p_a`, the mean over structures of the mean displacement, `median_delta_p_a`,
        `do_nothing_delta_p_a` (the same before relaxation), `converged_fraction`,
        `drifted_fraction` (further than 0.5 A); each structure's `displacements` and
        `start_displacements`, and its `perturbed` and `relaxed` positions, aligned.
    """
    rng = np.random.default_rng(protocol.seed)
    after, before, converged, pushed, relaxed = [], [], [], [], []
    bar = tqdm(total=len(structures), desc=f"{name} relaxations", unit=" molecules", mininterval=1)
    for batch in batches(structures, batch_size):
        reference = _split(batch.pos, batch)
        push = rng.normal(scale=protocol.noise, size=tuple(batch.pos.shape))
        batch.pos = batch.pos + torch.as_tensor(push, dtype=batch.pos.dtype)
        start = _split(batch.pos, batch)
        before += map(mean_displacement, start, reference)
        pushed += map(align, start, reference)
        with quiet():
            end = ml_relax(
                batch=batch,
                model=predictor,
                steps=protocol.steps,
                fmax=protocol.fmax,
                relax_opt={"maxstep": protocol.maxstep},
                save_full_traj=False,
            )
        positions = _split(end.pos, batch)
        after += map(mean_displacement, positions, reference)
        relaxed += map(align, positions, reference)
        largest = [np.linalg.norm(f, axis=1).max() for f in _split(end.forces, batch)]
        converged += [bool(force < protocol.fmax) for force in largest]
        bar.update(len(reference))
    bar.close()
    return {
        "delta_p_a": float(np.mean(after)),
        "median_delta_p_a": float(np.median(after)),
        "do_nothing_delta_p_a": float(np.mean(before)),
        "converged_fraction": float(np.mean(converged)),
        "drifted_fraction": float(np.mean(np.array(after) > 0.5)),
        "displacements": after,
        "start_displacements": before,
        "perturbed": pushed,
        "relaxed": relaxed,
    }


def _split(values: torch.Tensor, batch) -> list[np.ndarray]:
    return [v.detach().cpu().numpy() for v in torch.split(values, batch.natoms.tolist())]
