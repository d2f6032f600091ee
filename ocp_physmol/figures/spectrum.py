"""A picture of a molecule's vibrations, without intensities."""

from itertools import cycle
from pathlib import Path

import numpy as np

from ocp_physmol.figures.style import PALETTE, drawn, literal

WIDTH = 10.0  # 1/cm, of a line


def spectrum_figure(path: Path, title: str, spectra: dict[str, np.ndarray]) -> None:
    """Draw how many modes there are at each frequency, a row for each method.

    `spectra` has frequencies in 1/cm by method; imaginary ones are negative.
    """
    lowest = min((f.min(initial=0) for f in spectra.values()), default=0)
    highest = max((f.max(initial=1000) for f in spectra.values()), default=1000)
    grid = np.arange(min(0, lowest - 100), highest + 200, 2.0)
    with drawn(path, 7, 1 + 1.4 * len(spectra)) as fig:
        axes = fig.subplots(len(spectra), 1, sharex=True, squeeze=False)[:, 0]
        for ax, (name, frequencies), color in zip(axes, spectra.items(), cycle(PALETTE)):
            lines = WIDTH**2 / ((grid[:, None] - frequencies) ** 2 + WIDTH**2)
            ax.fill_between(grid, lines.sum(1), color=color, alpha=0.5, lw=0)
            ax.vlines(frequencies, 0, 1, color=color, lw=0.8)
            ax.axvspan(grid[0], 0, color="#eeeeee", zorder=-2)
            ax.set(ylabel="modes", xlim=(grid[0], grid[-1]), ylim=(0, None))
            ax.set_title(literal(f"{title}, {name}"), fontsize=9, loc="left")
        axes[-1].set_xlabel("cm$^{-1}$ (imaginary below 0)")
