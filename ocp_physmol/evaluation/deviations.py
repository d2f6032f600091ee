"""How far relaxed structures are from the minima of the data."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch_geometric.data import Data

from ocp_physmol import geometry
from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.relaxation.batched import Frame
from ocp_physmol.relaxation.predictor import Predictor
from ocp_physmol.tensor_geometry import align

FAR, DRIFTED = 0.2, 0.5  # Angstrom, of mean displacement
CONFIDENCE, RESAMPLES = 0.95, 2000  # of intervals, by bootstrap over molecules


def deviations(
    predictor: Predictor,
    structures: list[Data],
    starts: list[np.ndarray],
    ends: list[Frame],
    fmax: float,
    batch_size: int = 32,
    keys: tuple[str, str] = ("start", "end"),
) -> dict:
    """Compare relaxed structures with the minima that `structures` are.

    A relaxation has exploded if its positions, energy or forces are not finite. In medians and
    fractions it counts as unconverged, broken and infinitely far from the minimum. The mean
    `delta_p_a` leaves it out, so read it together with `exploded_fraction`.

    Returns:
        What `displacement_summary` says, `do_nothing_delta_p_a` (before relaxation),
        `median_energy_change_ev` (of absolute values); fractions of structures:
        `converged_fraction` (to `fmax`), `broken_fraction` (other bonds than at the minimum). Of
        each structure: `displacements`, `start_displacements`, `energy_changes_ev` (Delta E_g: the
        model's energy at the end minus its energy at the minimum; infinite where it has none),
        `converged`, `broken`, `sids`, and as `keys` the positions at the start and at the end,
        aligned with the minimum.
    """
    at_minima, _ = predictor.energies_and_forces(structures, batch_size)
    fates = []
    for structure, start, end, energy in zip(structures, starts, ends, at_minima):
        minimum = structure.pos.numpy()
        change = end.energy - energy
        exploded = not np.isfinite([end.energy, end.largest_force, *end.positions.flat]).all()
        fate = {
            "displacements": np.inf if exploded else mean_displacement(end.positions, minimum),
            "start_displacements": mean_displacement(start, minimum),
            "energy_changes_ev": np.inf if exploded or np.isnan(change) else change,
            "converged": not exploded and end.largest_force < fmax,
            "broken": exploded or not same_bonds(structure, end.positions),
            "sids": identifier(structure.sid),
            keys[0]: _align(start, minimum),
            keys[1]: _align(end.positions, minimum),
        }
        fates.append(fate)
    lists = pd.DataFrame(fates).to_dict("list")
    return {
        **displacement_summary(lists["displacements"]),
        "do_nothing_delta_p_a": float(np.mean(lists["start_displacements"])),
        "median_energy_change_ev": float(np.median(np.abs(lists["energy_changes_ev"]))),
        "converged_fraction": float(np.mean(lists["converged"])),
        "broken_fraction": float(np.mean(lists["broken"])),
        **lists,
    }


def displacement_summary(displacements: Sequence[float]) -> dict[str, float]:
    """Numbers over structures, of the mean displacement of each (A); infinite if it has exploded.

    Returns:
        `delta_p_a`, their mean without what has exploded, and `median_delta_p_a`; of both the ends
        of intervals, KEY_low and KEY_high for delta_p and median_delta_p; fractions of structures:
        `far_fraction` (further than 0.2 A), `drifted_fraction` (than 0.5 A), `exploded_fraction`.
    """
    after = np.array(displacements, dtype=float)
    finite = after[np.isfinite(after)]
    found: dict[str, float] = {}
    for name, values, statistic in (
        ("delta_p", finite, np.mean),
        ("median_delta_p", after, np.median),
    ):
        low, high = _interval(values, statistic)
        middle = float(statistic(values)) if len(values) else np.inf
        found |= {f"{name}_a": middle, f"{name}_low_a": low, f"{name}_high_a": high}
    return found | {
        "far_fraction": float(np.mean(after > FAR)),
        "drifted_fraction": float(np.mean(after > DRIFTED)),
        "exploded_fraction": float(np.mean(np.isinf(after))),
    }


def _interval(values: np.ndarray, statistic: Callable) -> tuple[float, float]:
    """Between which the statistic of other molecules would lie; where they are all alike, there."""
    if len(values) < 2:
        return (float(values[0]),) * 2 if len(values) else (np.inf, np.inf)
    rng = np.random.default_rng(0)
    drawn = statistic(rng.choice(values, (RESAMPLES, len(values))), axis=1)
    ends = np.quantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], method="nearest")
    return float(ends[0]), float(ends[1])


def same_bonds(structure: Data, positions: np.ndarray) -> bool:
    """Whether a structure with its atoms at other positions [n, 3] has the bonds that it has."""
    numbers = structure.atomic_numbers.int().numpy()
    return geometry.bonds(numbers, positions) == geometry.bonds(numbers, structure.pos.numpy())


def mean_displacement(positions: np.ndarray, reference: np.ndarray) -> float:
    """Delta P of one structure: mean distance of its atoms from `reference`, aligned, in A."""
    return float(np.linalg.norm(_align(positions, reference) - reference, axis=1).mean())


def _align(positions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """`positions` [n, 3], if finite, moved rigidly onto `reference` [n, 3], in double precision."""
    if not np.isfinite(positions).all():
        return positions
    pair = (torch.from_numpy(p.astype(float)) for p in (positions, reference))
    return align(*pair).numpy()
