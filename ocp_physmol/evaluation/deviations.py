"""How far relaxed structures are from the minima of the data."""

from collections.abc import Sequence

import numpy as np
import torch
from torch_geometric.data import Data

from ocp_physmol import geometry
from ocp_physmol.geometry import bonds
from ocp_physmol.relaxation.batched import Relaxed
from ocp_physmol.relaxation.predictor import Predictor

DRIFTED = 0.5  # Angstrom, of mean displacement


def align(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`positions` [n, 3] moved rigidly onto `reference` [n, 3], in double precision."""
    pair = (torch.from_numpy(p.astype(float)) for p in (positions, reference))
    return geometry.align(*pair).numpy()


def mean_displacement(positions: np.ndarray, reference: np.ndarray) -> float:
    """Delta P of one structure: mean distance of its atoms from `reference`, aligned, in A."""
    return float(np.linalg.norm(align(positions, reference) - reference, axis=1).mean())


def deviations(
    predictor: Predictor,
    structures: Sequence[Data],
    starts: list[np.ndarray],
    relaxed: Relaxed,
    fmax: float,
    batch_size: int = 32,
) -> dict:
    """Compare relaxed structures with the minima that `structures` are.

    A relaxation has exploded if its positions, energy or forces are not finite. It counts as
    unconverged, with other bonds and infinitely far away in all medians and fractions. The mean
    `delta_p_a` leaves it out, so read it together with `exploded_fraction`.

    Returns:
        `delta_p_a`, the mean over structures of the mean displacement, `median_delta_p_a`,
        `do_nothing_delta_p_a` (the same before relaxation), `median_energy_change_ev` (of absolute
        values); fractions of structures: `converged_fraction` (to `fmax`), `drifted_fraction`
        (further than 0.5 A), `broken_fraction` (other bonds than the minimum),
        `exploded_fraction`. With them of each structure: `displacements`, `start_displacements`,
        `energy_changes_ev` (Delta E_g: the model's energy where the relaxation ended minus its
        energy at the minimum; the paper plots its absolute value on a logarithmic axis),
        `converged` and `broken`.
    """
    references = [s.pos.numpy() for s in structures]
    exploded = ~(np.isfinite(relaxed.energies) & np.isfinite(relaxed.largest_forces))
    exploded |= [not np.isfinite(positions).all() for positions in relaxed.positions]
    after, broken = [], []
    for structure, positions, reference, lost in zip(
        structures, relaxed.positions, references, exploded
    ):
        numbers = structure.atomic_numbers.int().numpy()
        after.append(np.inf if lost else mean_displacement(positions, reference))
        broken.append(bool(lost or bonds(numbers, positions) != bonds(numbers, reference)))
    before = [mean_displacement(*pair) for pair in zip(starts, references)]
    changes = relaxed.energies - predictor.energies_and_forces(structures, batch_size)[0]
    changes = np.where(exploded, np.inf, changes)
    converged = ~exploded & (relaxed.largest_forces < fmax)
    after_finite = np.array(after)[~exploded]
    return {
        "delta_p_a": float(after_finite.mean()) if len(after_finite) else np.inf,
        "median_delta_p_a": float(np.median(after)),
        "do_nothing_delta_p_a": float(np.mean(before)),
        "median_energy_change_ev": float(np.median(np.abs(changes))),
        "converged_fraction": float(np.mean(converged)),
        "drifted_fraction": float(np.mean(np.array(after) > DRIFTED)),
        "broken_fraction": float(np.mean(broken)),
        "exploded_fraction": float(np.mean(exploded)),
        "displacements": after,
        "start_displacements": before,
        "energy_changes_ev": changes.tolist(),
        "converged": converged.tolist(),
        "broken": broken,
    }


def aligned(positions: list[np.ndarray], structures: Sequence[Data]) -> list[np.ndarray]:
    """Positions of each structure moved onto its minimum, unless they are not finite."""
    pairs = zip(positions, (s.pos.numpy() for s in structures))
    return [align(p, r) if np.isfinite(p).all() else p for p, r in pairs]
