"""Pictures of the pair energies that a PhysMol has learned."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ocp_physmol.figures.style import GUIDE, drawn

MOST = 8  # kinds of pairs that are worth a color
KINDS = {"bonded": 0.9, "not bonded": 0.3}  # and how opaque they are drawn
TERM_LABELS = {"coulomb_ev": "Coulomb", "lennard_jones_ev": "Lennard-Jones", "atoms_ev": "atoms"}
PARAMETER_LABELS = {
    "exponent": "exponent $\\beta_3$",
    "depth_ev": "depth $\\beta_2$ (eV)",
    "coulomb_ev_a": "Coulomb $\\beta_1\\beta_0$ (eV Å)",
    "equilibrium_a": "equilibrium distance $\\beta_4$ (Å)",
}


def bond_parameters_figure(path: Path, result: dict) -> None:
    """Draw what `bond_parameters` returned: distances and energies above all parameters."""
    pairs = result["pairs"]
    colors = {elements: f"C{k}" for k, elements in enumerate(most_frequent(pairs))}
    with drawn(path, 16, 7.2) as fig:
        above, below = fig.subplots(2, 4)
        for ax, kind in zip(above, KINDS):
            _distances(ax, pairs, colors, kind)
        _curves(above[2], result["curves"], colors)
        _terms(above[3], result["molecules"])
        for ax, key in zip(below, PARAMETER_LABELS):
            _boxes(ax, pairs, colors, key)
        below[0].axhline(6, **GUIDE)
        below[1].set_yscale("log")
        below[2].axhline(0, **GUIDE)
        handles = [Line2D([], [], color=color, marker="o", lw=1.5) for color in colors.values()]
        fig.legend(handles, list(colors), loc="outside right upper")


def most_frequent(pairs: dict) -> list[str]:
    """The MOST pairs of elements of which there are most, bonded and not bonded together."""
    return sorted(pairs, key=lambda e: -sum(kind["count"] for kind in pairs[e].values()))[:MOST]


def _distances(ax: Axes, pairs: dict, colors: dict, kind: str) -> None:
    """The learned equilibrium distance against the distance in the data."""
    for elements, color in colors.items():
        if kind in pairs[elements]:
            samples = pairs[elements][kind]["samples"]
            ax.scatter(samples["distance_a"], samples["equilibrium_a"], s=8, alpha=0.5, color=color,
                       linewidths=0)  # fmt: skip
    highest = max(ax.get_xlim()[1], ax.get_ylim()[1])
    ax.plot((0, highest), (0, highest), **GUIDE, zorder=-1, scalex=False)
    ax.set(xlabel="distance (Å)", ylabel=PARAMETER_LABELS["equilibrium_a"],
           title=f"{kind} pairs", ylim=(0, highest))  # fmt: skip


def _curves(ax: Axes, curves: dict, colors: dict) -> None:
    """Pair energies of bonded pairs; a dot where the data has the atoms."""
    lowest, highest = -0.1, 0.1
    for elements, color in colors.items():
        if elements not in curves:
            continue
        curve, length = curves[elements], curves[elements]["distance_a"]
        energy = np.add(curve["coulomb_ev"], curve["lennard_jones_ev"])
        at_length = np.interp(length, curve["at_a"], energy)
        ax.plot(curve["at_a"], energy, color=color, lw=1.5)
        ax.plot(length, at_length, "o", color=color, ms=6, mec="black", mew=0.8, zorder=3)
        lowest, highest = min(lowest, energy.min()), max(highest, at_length, -energy.min())
    margin = 0.15 * (highest - lowest)
    ax.axhline(0, **GUIDE, zorder=-1)
    ax.set(xlim=(0.6, 4), ylim=(lowest - margin, highest + margin), xlabel="distance (Å)",
           ylabel="pair energy (eV)", title="bonds; dots: in the data")  # fmt: skip


def _terms(ax: Axes, molecules: dict) -> None:
    energies = [molecules[term] for term in TERM_LABELS]
    ax.boxplot(energies, widths=0.5, boxprops={"facecolor": "#9a9a9a"})
    ax.axhline(0, **GUIDE, zorder=-1)
    ax.set_xticks(range(1, len(TERM_LABELS) + 1), list(TERM_LABELS.values()))
    ax.set(ylabel="energy of a molecule (eV)", title="parts of the energy")


def _boxes(ax: Axes, pairs: dict, colors: dict, key: str) -> None:
    """The distribution of a parameter: bonded pairs left, others right and paler."""
    for k, (elements, color) in enumerate(colors.items()):
        for shift, (kind, alpha) in zip((-0.2, 0.2), KINDS.items()):
            if kind in pairs[elements]:
                samples = pairs[elements][kind]["samples"][key]
                ax.boxplot(samples, positions=[k + shift], widths=0.34, manage_ticks=False,
                           boxprops={"facecolor": color, "alpha": alpha})  # fmt: skip
    ax.set_xticks(range(len(colors)), list(colors))
    ax.set(ylabel=PARAMETER_LABELS[key], title="bonded, not bonded (pale)")
