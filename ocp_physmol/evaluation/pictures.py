"""Pictures of what a model does to minima."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.visualize.plot import plot_atoms

COLORS = {"PhysMol": "#0b6e99", "energy only": "#d1495b"}
DO_NOTHING = "#555555"


def recovery_figure(path: Path, results: dict[str, dict], molecules: list[dict]) -> None:
    """Draw relaxations of single molecules above the distributions over all of them.

    Args:
        path: the PNG to write.
        results: for each model the dictionaries of `energy_and_force_errors` and `recover` in one.
        molecules: each with `title`, `numbers` and, by panel title, `panels` of positions [n, 3].
    """
    columns = len(molecules[0]["panels"])
    rows = len(molecules)
    fig = plt.figure(figsize=(3.1 * columns, 2.6 * rows + 3.6), layout="constrained")
    top, bottom = fig.subfigures(2, 1, height_ratios=[2.6 * rows, 3.6])
    for row, axes in zip(molecules, top.subplots(rows, columns, squeeze=False)):
        _draw_molecule(row, axes)
    left, middle, right = bottom.subplots(1, 3)
    _distribution(
        left, results, "energy_errors_mev", "error of the energy at the minimum (meV)", (0.1, 1e4)
    )
    _distribution(
        middle, results, "force_norms_ev_per_a", "force left at the minimum (eV/Å)", (1e-3, 10)
    )
    _distribution(
        right, results, "displacements", "ΔP after relaxation, per molecule (Å)", (0.01, 3)
    )
    start = float(np.mean(next(iter(results.values()))["start_displacements"]))
    right.axvline(start, color=DO_NOTHING, ls="--", lw=1.2)
    right.annotate(
        "do nothing", (start, 0.97), xycoords=("data", "axes fraction"), ha="right", va="top",
        rotation=90, color=DO_NOTHING, fontsize=8,
    )  # fmt: skip
    left.legend(frameon=False, fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)
    plt.close(fig)


def _draw_molecule(row: dict, axes) -> None:
    """One molecule in several states, all seen along the axis of its largest moment of inertia."""
    reference = next(iter(row["panels"].values()))
    flat = np.linalg.svd(reference - reference.mean(axis=0))[2]  # widest direction first
    for ax, (title, positions) in zip(axes, row["panels"].items()):
        seen = (positions - positions.mean(axis=0)) @ flat.T
        plot_atoms(Atoms(row["numbers"], seen), ax, radii=0.45)
        extent = np.abs((reference - reference.mean(axis=0)) @ flat.T).max(axis=0)[:2].max() + 1.0
        center = np.array([ax.get_xlim(), ax.get_ylim()]).mean(axis=1)
        ax.set_xlim(center[0] - extent, center[0] + extent)
        ax.set_ylim(center[1] - extent, center[1] + extent)
        ax.set_axis_off()
        ax.set_title(title, fontsize=9)
    axes[0].annotate(
        row["title"], (-0.02, 0.5), xycoords="axes fraction", rotation=90, va="center", ha="right"
    )


def _distribution(ax, results: dict[str, dict], key: str, label: str, limits) -> None:
    bins = np.geomspace(*limits, 40)
    for name, result in results.items():
        values = np.clip(result[key], *limits)
        ax.hist(values, bins, density=False, weights=np.full(len(values), 100 / len(values)),
                alpha=0.65, color=COLORS[name], label=name)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(*limits)
    ax.set_xlabel(label)
    ax.set_ylabel("share (%)")
    ax.spines[["top", "right"]].set_visible(False)
