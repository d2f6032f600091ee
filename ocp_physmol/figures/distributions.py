"""Pictures of what models do to minima: single molecules, and distributions over all of them."""

import matplotlib

matplotlib.use("Agg")

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from ocp_physmol.figures.molecules import (
    draw_molecules,
    figure_width,
    row_height,
    save,
)

# Okabe and Ito's, which colour-blind people can tell apart
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
DO_NOTHING = "#555555"
FILLED = 2  # so many models are filled; more would hide each other
BINS = 32
SHIFT_LIMITS = (1e-3, 10.0)  # Angstrom
ENERGY_LIMITS = (1e-5, 10.0)  # eV


def recovery_figure(path: Path, results: dict[str, dict], molecules: Sequence[dict]) -> None:
    """Draw relaxations of single molecules above the distributions over all of them.

    Args:
        path: the file to write, its kind by its suffix (.png, .svg, .pdf).
        results: for each model the dictionaries of `energy_and_force_errors` and `recover` in one.
        molecules: as the rows of `molecules_figure`.
    """
    height = sum(row_height(row) for row in molecules) + 0.4
    width = max(9.3, figure_width(molecules))
    fig = plt.figure(figsize=(width, height + 3.6), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=[height, 3.6])
    draw_molecules(top, molecules)
    left, middle, right = bottom.subplots(1, 3)
    _distribution(left, results, "energy_errors_mev", "energy error (meV)", (0.1, 1e4))
    _distribution(
        middle, results, "force_norms_ev_per_a", "force at the minimum (eV/Å)", (1e-3, 10)
    )
    _distribution(right, results, "displacements", "ΔP after relaxation (Å)", (0.01, 3))
    _mark(right, float(np.mean(next(iter(results.values()))["start_displacements"])))
    bottom.legend(*left.get_legend_handles_labels(), loc="outside upper center",
                  ncols=len(results), frameon=False, fontsize=9)  # fmt: skip
    save(fig, path)


def distribution_figure(
    path: Path, results: dict[str, dict], do_nothing: float | None = None
) -> None:
    """Distributions of |Delta E_g| and Delta P on logarithmic axes (the paper's Fig. 2b, c).

    Args:
        path: the file to write, its kind by its suffix (.png, .svg, .pdf).
        results: for each model its `displacements` (Angstrom) and `energy_changes_ev`. What lies
            outside the axes, infinity too, counts at their ends.
        do_nothing: mean displacement before relaxation, to mark; not marked if 0 or None.
    """
    fig, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.7), layout="constrained")
    _distribution(left, results, "energy_changes_ev", "|ΔE$_g$| (eV)", ENERGY_LIMITS)
    _distribution(right, results, "displacements", "ΔP (Å)", SHIFT_LIMITS)
    if do_nothing:
        _mark(right, do_nothing)
    fig.legend(*left.get_legend_handles_labels(), loc="outside upper center",
               ncols=min(4, len(results)), frameon=False, fontsize=9)  # fmt: skip
    save(fig, path)


def _distribution(
    ax: Axes, results: dict[str, dict], key: str, label: str, limits: tuple[float, float]
) -> None:
    """A histogram of absolute values for each model, filled if there are few."""
    bins = np.geomspace(*limits, BINS + 1)
    for i, (name, result) in enumerate(results.items()):
        color = PALETTE[i % len(PALETTE)]
        style = ("-", "--", ":")[i // len(PALETTE) % 3]
        values = np.clip(np.abs(result[key]), *limits)
        counts = np.histogram(values, bins, weights=np.full(len(values), 100 / len(values)))[0]
        ax.stairs(counts, bins, color=color, lw=1.6, ls=style, label=name)
        if len(results) <= FILLED:
            ax.stairs(counts, bins, color=color, fill=True, alpha=0.3)
    ax.set_xscale("log")
    ax.set_xlim(*limits)
    ax.set_ylim(bottom=0)
    ax.set_xlabel(label, fontsize=10)
    ax.set_ylabel("share (%)", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)


def _mark(ax: Axes, displacement: float) -> None:
    """The do-nothing line."""
    ax.axvline(displacement, color=DO_NOTHING, ls="--", lw=1.2)
    ax.annotate(
        "do nothing", (displacement, 1.01), xycoords=("data", "axes fraction"), ha="center",
        va="bottom", color=DO_NOTHING, fontsize=8,
    )  # fmt: skip
