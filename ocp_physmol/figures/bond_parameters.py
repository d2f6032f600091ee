"""Pictures of the pair energies that a PhysMol has learned."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D

from ocp_physmol.figures.molecules import save

MOST = 8  # kinds of pairs that are worth a color
KINDS = {"bonded": 0.9, "not bonded": 0.3}  # and how opaque they are drawn
TERM_LABELS = {
    "coulomb_ev": "Coulomb",
    "lennard_jones_ev": "Lennard-Jones",
    "atoms_ev": "atoms",
}


def bond_parameters_figure(path: Path, result: dict) -> None:
    """Draw equilibrium distances, pair energies and parts of the energy above all parameters.

    Args:
        path: the PNG to write.
        result: what `bond_parameters` returned.
    """
    pairs = result["pairs"]
    colors = {elements: f"C{k}" for k, elements in enumerate(most_frequent(pairs))}
    fig, axes = plt.subplots(2, 4, figsize=(16, 7.2), layout="constrained")
    for ax, kind in zip(axes[0], KINDS):
        _distances(ax, pairs, colors, kind)
    _curves(axes[0, 2], result["curves"], colors)
    _terms(axes[0, 3], result["molecules"])
    _boxes(axes[1, 0], pairs, colors, "exponent", "exponent $\\beta_3$")
    axes[1, 0].axhline(6, color="#555555", lw=1, ls="--")
    _boxes(axes[1, 1], pairs, colors, "depth_ev", "depth $\\beta_2$ (eV)")
    axes[1, 1].set_yscale("log")
    _boxes(axes[1, 2], pairs, colors, "coulomb_ev_a", "Coulomb $\\beta_1\\beta_0$ (eV Å)")
    axes[1, 2].axhline(0, color="#555555", lw=1, ls="--")
    _boxes(axes[1, 3], pairs, colors, "equilibrium_a", "equilibrium distance $\\beta_4$ (Å)")
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    handles = [Line2D([], [], color=color, marker="o", lw=1.5) for color in colors.values()]
    fig.legend(handles, list(colors), frameon=False, loc="outside right upper")
    save(fig, path)


def most_frequent(pairs: dict) -> list[str]:
    """The MOST pairs of elements of which there are most, bonded and not bonded together."""
    return sorted(pairs, key=lambda e: -sum(kind["count"] for kind in pairs[e].values()))[:MOST]


def _distances(ax, pairs: dict, colors: dict, kind: str) -> None:
    """The learned equilibrium distance against the distance in the data."""
    for elements, color in colors.items():
        if kind in pairs[elements]:
            samples = pairs[elements][kind]["samples"]
            x, y = samples["distance_a"], samples["equilibrium_a"]
            ax.scatter(x, y, s=8, alpha=0.5, color=color, linewidths=0)
    highest = max(ax.get_xlim()[1], ax.get_ylim()[1])
    ax.plot((0, highest), (0, highest), color="#555555", lw=1, ls="--", zorder=-1, scalex=False)
    ax.set(xlabel="distance (Å)", ylabel="equilibrium distance $\\beta_4$ (Å)",
           title=f"{kind} pairs", ylim=(0, highest))  # fmt: skip


def _curves(ax, curves: dict, colors: dict) -> None:
    """Pair energies of bonded pairs; a dot where the data has the atoms."""
    lowest, highest = -0.1, 0.1
    for elements in colors:
        if elements not in curves:
            continue
        curve, color = curves[elements], colors[elements]
        distance = np.array(curve["at_a"])
        energy = np.add(curve["coulomb_ev"], curve["lennard_jones_ev"])
        length = curve["distance_a"]
        at_length = np.interp(length, distance, energy)
        ax.plot(distance, energy, color=color, lw=1.5)
        ax.plot(length, at_length, "o", color=color, ms=6, mec="black", mew=0.8, zorder=3)
        lowest, highest = min(lowest, energy.min()), max(highest, at_length, -energy.min())
    margin = 0.15 * (highest - lowest)
    ax.set(xlim=(0.6, 4), ylim=(lowest - margin, highest + margin))
    ax.axhline(0, color="#555555", lw=1, ls="--", zorder=-1)
    ax.set(
        xlabel="distance (Å)",
        ylabel="pair energy (eV)",
        title="bonds; dots: in the data",
    )


def _terms(ax, molecules: dict) -> None:
    """What the energies of molecules are made of."""
    box = ax.boxplot(
        [molecules[term] for term in TERM_LABELS], widths=0.5, whis=(5, 95), showfliers=False,
        patch_artist=True, medianprops={"color": "black"},
    )  # fmt: skip
    for patch in box["boxes"]:
        patch.set(facecolor="#9a9a9a")
    ax.axhline(0, color="#555555", lw=1, ls="--", zorder=-1)
    ax.set_xticks(range(1, len(TERM_LABELS) + 1), list(TERM_LABELS.values()))
    ax.set(ylabel="energy of a molecule (eV)", title="parts of the energy")


def _boxes(ax, pairs: dict, colors: dict, key: str, label: str) -> None:
    """The distribution of a parameter: bonded pairs left, others right and paler."""
    for k, (elements, color) in enumerate(colors.items()):
        for shift, (kind, alpha) in zip((-0.2, 0.2), KINDS.items()):
            if kind not in pairs[elements]:
                continue
            box = ax.boxplot(
                [pairs[elements][kind]["samples"][key]], positions=[k + shift], widths=0.34,
                whis=(5, 95), showfliers=False, patch_artist=True, manage_ticks=False,
                medianprops={"color": "black"},
            )  # fmt: skip
            box["boxes"][0].set(facecolor=color, alpha=alpha)
    ax.set_xticks(range(len(colors)), list(colors))
    ax.set(ylabel=label, title="bonded, not bonded (pale)")
