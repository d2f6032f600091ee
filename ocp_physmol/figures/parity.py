"""Predictions against labels, as dots about a diagonal."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ocp_physmol.figures.style import GUIDE, PALETTE, drawn


def parity_figure(path: Path, energies: np.ndarray, forces: np.ndarray) -> None:
    """Draw energies and components of forces, each with labels and predictions as its rows.

    Args:
        path: of the picture.
        energies: [2, B] in eV, without the energies of the elements.
        forces: [2, K] in eV/Angstrom.
    """
    with drawn(path, 7.6, 3.8) as fig:
        left, right = fig.subplots(1, 2)
        _panel(left, energies, "energy minus element energies", "eV", PALETTE[0])
        _panel(right, forces, "force component", "eV/Å", PALETTE[1])


def _panel(ax: Axes, pairs: np.ndarray, quantity: str, unit: str, color: str) -> None:
    """One dot for each pair; the mean absolute error is the title."""
    label, predicted = pairs
    ends = [pairs.min(), pairs.max()]
    ax.plot(ends, ends, **GUIDE)
    ax.scatter(label, predicted, s=6, alpha=0.4, color=color, linewidths=0, rasterized=True)
    error = 1000 * np.abs(predicted - label).mean()
    ax.set_title(f"{quantity}: MAE {error:.3g} m{unit}", fontsize=10)
    ax.set(xlabel=f"label ({unit})", ylabel=f"model ({unit})", aspect="equal")
