"""Pictures of what a model does to minima."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms
from ase.data import covalent_radii
from ase.data.colors import jmol_colors
from ase.neighborlist import natural_cutoffs, neighbor_list

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
    _distribution(left, results, "energy_errors_mev", "energy error (meV)", (0.1, 1e4))
    _distribution(
        middle, results, "force_norms_ev_per_a", "force at the minimum (eV/Å)", (1e-3, 10)
    )
    _distribution(right, results, "displacements", "ΔP after relaxation (Å)", (0.01, 3))
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
    """One molecule in several states, all seen from the side on which the first is widest."""
    numbers = np.asarray(row["numbers"])
    first = next(iter(row["panels"].values()))
    center = first.mean(axis=0)
    widest = np.linalg.svd(first - center)[2].T
    bonds = _bonds(numbers, first)
    extent = np.abs((first - center) @ widest)[:, :2].max(axis=0) + 0.9
    for ax, (title, positions) in zip(axes, row["panels"].items()):
        x, y, depth = ((positions - center) @ widest).T
        for i, j in bonds:
            ax.plot(x[[i, j]], y[[i, j]], color="#999999", lw=2.5, zorder=-10)
        order = depth.argsort()
        ax.scatter(x[order], y[order], s=900 * covalent_radii[numbers[order]] ** 2,
                   c=jmol_colors[numbers[order]], edgecolors="#333333", linewidths=0.8)  # fmt: skip
        ax.set(xlim=(-extent[0], extent[0]), ylim=(-extent[1], extent[1]), aspect="equal")
        ax.set_axis_off()
        ax.set_title(title, fontsize=10)
    axes[0].annotate(
        row["title"], (-0.02, 0.5), xycoords="axes fraction", rotation=90, va="center", ha="right"
    )


def _bonds(numbers, positions) -> list[tuple[int, int]]:
    """Pairs closer than 1.2 times the sum of their covalent radii."""
    atoms = Atoms(numbers, positions)
    i, j = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.2))
    return [(a, b) for a, b in zip(i, j) if a < b]


def _distribution(ax, results: dict[str, dict], key: str, label: str, limits) -> None:
    bins = np.geomspace(*limits, 40)
    for name, result in results.items():
        values = np.clip(result[key], *limits)
        ax.hist(values, bins, density=False, weights=np.full(len(values), 100 / len(values)),
                alpha=0.65, color=COLORS[name], label=name)  # fmt: skip
    ax.set_xscale("log")
    ax.set_xlim(*limits)
    ax.set_xlabel(label, fontsize=10)
    ax.set_ylabel("share (%)", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)
