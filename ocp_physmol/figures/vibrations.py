"""Pictures of a model's harmonic frequencies beside those of DFT."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from ocp_physmol.figures.style import GREY, GUIDE, drawn, literal

SCALE = (-2000, 4500)  # 1/cm; what lies outside is drawn at the edge
ERRORS = (-3500, 3500)  # 1/cm


def vibrations_figure(path: Path, results: dict[str, dict]) -> None:
    """Draw model against DFT, a panel for each result of `vibrations`, above errors by band."""
    columns = max(2, len(results))
    with drawn(path, 3.2 * columns, 6.6) as fig:
        top, bottom = fig.subfigures(2, 1, squeeze=False, height_ratios=[3.5, 3.1]).flat
        axes = top.subplots(1, columns, sharex=True, sharey=True)
        for ax in axes[len(results) :]:
            ax.remove()  # one panel alone is as wide as one of two
        for k, (ax, (name, result)) in enumerate(zip(axes, results.items())):
            _scatter(ax, name, result, f"C{k}")
        axes[0].set_ylabel("model (cm$^{-1}$)")
        _errors(bottom.subplots(), results)


def _scatter(ax: Axes, name: str, result: dict, color: str) -> None:
    """Every mode as a dot; imaginary ones lie in the grey half plane."""
    dft, model = np.reshape(result["pairs"], (-1, 2)).T
    ax.axhspan(SCALE[0], 0, color="#eeeeee", zorder=-2)
    ax.annotate("imaginary", (0.97, 0.02), xycoords="axes fraction", ha="right", va="bottom",
                fontsize=8, color=GREY)  # fmt: skip
    for edge in result["band_edges_per_cm"]:
        ax.axvline(edge, color="#bbbbbb", lw=0.8, zorder=-1)
    ax.plot((0, SCALE[1]), (0, SCALE[1]), **GUIDE)
    ax.scatter(dft, np.clip(model, *SCALE), s=4, alpha=0.35, color=color, linewidths=0)
    ax.set(xlim=(0, SCALE[1]), ylim=SCALE, xlabel="DFT (cm$^{-1}$)")
    ax.set_title(literal(name), fontsize=10, color=color)


def _errors(ax: Axes, results: dict[str, dict]) -> None:
    """Errors in each band, in the panels' colors."""
    bands = list(next(iter(results.values()))["bands"])
    width = 0.8 / len(results)
    for k, result in enumerate(results.values()):
        dft, model = np.reshape(result["pairs"], (-1, 2)).T
        band = np.digitize(dft, result["band_edges_per_cm"])
        errors = [(model - dft)[band == b] for b in range(len(bands))]
        places = np.arange(len(bands)) + (k - (len(results) - 1) / 2) * width
        ax.boxplot(errors, positions=places, widths=0.85 * width, manage_ticks=False,
                   boxprops={"facecolor": f"C{k}", "alpha": 0.65})  # fmt: skip
    ax.axhline(0, **GUIDE, zorder=-1)
    ax.set_xticks(range(len(bands)), bands)
    ax.set(ylim=ERRORS, xlabel="DFT (cm$^{-1}$)", ylabel="model $-$ DFT (cm$^{-1}$)")
