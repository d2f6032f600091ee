"""Pictures of what relaxations do to minima: examples, distributions, the gain by training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase

from ocp_physmol.figures.molecules import draw_molecules, figure_size
from ocp_physmol.figures.style import GREY, GUIDE, PALETTE, drawn, literal

FILLED = 2  # so many models are filled; more would hide each other
BINS = 32


def recovery_figure(path: Path, results: dict[str, dict], molecules: Sequence[dict]) -> None:
    """Draw relaxations of `molecules`, rows of `molecules_figure`, above distributions over all.

    `results` hold, for each model, the keys of `energy_and_force_errors` and of `recover`.
    """
    width, height = figure_size(molecules)
    with drawn(path, max(9.3, width), height + 3.6) as fig:
        top, bottom = fig.subfigures(2, 1, squeeze=False, height_ratios=[height, 3.6]).flat
        draw_molecules(top, molecules)
        left, middle, right = bottom.subplots(1, 3)
        _distribution(left, results, "energy_errors_mev", "energy error (meV)", (0.1, 1e4))
        force = "force at the minimum (eV/Å)"
        _distribution(middle, results, "force_norms_ev_per_a", force, (1e-3, 10))
        _distribution(right, results, "displacements", "ΔP after relaxation (Å)", (0.01, 3))
        _mark(right, float(np.mean(next(iter(results.values()))["start_displacements"])))
        _name_models(bottom, left, len(results))


def distribution_figure(
    path: Path, results: dict[str, dict], do_nothing: float | None = None
) -> None:
    """Distributions of |Delta E_g| and Delta P on logarithmic axes (the paper's Fig. 2b, c).

    `results` hold, for each model, `displacements` (Angstrom) and `energy_changes_ev`; values off
    the axes, infinity too, count at their ends. The mean displacement before relaxation,
    `do_nothing`, is marked unless 0 or None.
    """
    with drawn(path, 8.4, 3.7) as fig:
        left, right = fig.subplots(1, 2)
        _distribution(left, results, "energy_changes_ev", "|ΔE$_g$| (eV)", (1e-5, 10))
        _distribution(right, results, "displacements", "ΔP (Å)", (1e-3, 10))
        if do_nothing:
            _mark(right, do_nothing)
        _name_models(fig, left, min(4, len(results)))


def curve_figure(path: Path, records: list[dict]) -> None:
    """Draw the mean Delta P after each noise against the training time of the records."""
    records = sorted(records, key=lambda record: record["seconds"]["used"])
    seconds = [record["seconds"]["used"] for record in records]
    with drawn(path, 5.6, 3.6) as fig:
        ax = fig.subplots()
        for color, (noise, result) in zip(PALETTE, records[0]["recovery"].items()):
            means = [record["recovery"][noise]["delta_p_a"] for record in records]
            label = f"pushed by {noise} Å" if noise != "0" else "not pushed"
            ax.plot(seconds, means, "o-", color=color, label=label)
            if noise != "0":
                ax.axhline(result["do_nothing_delta_p_a"], **{**GUIDE, "color": color})
        ax.plot([], [], **GUIDE, label="do nothing")
        ax.set(xscale="log", xlabel="training (s)", ylabel="mean ΔP (Å)")
        ax.set_xticks(seconds, [f"{s:.0f}" for s in seconds])
        ax.minorticks_off()
        ax.set_ylim(bottom=0)
        ax.legend(fontsize=9)


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
        ax.stairs(counts, bins, color=color, lw=1.6, ls=style, label=literal(name))
        if len(results) <= FILLED:
            ax.stairs(counts, bins, color=color, fill=True, alpha=0.3)
    ax.set(xscale="log", xlim=limits, xlabel=label, ylabel="share (%)")
    ax.set_ylim(bottom=0)


def _mark(ax: Axes, displacement: float) -> None:
    ax.axvline(displacement, color=GREY, ls="--", lw=1.2)
    ax.annotate("do nothing", (displacement, 1.01), xycoords=("data", "axes fraction"), ha="center",
                va="bottom", color=GREY, fontsize=8)  # fmt: skip


def _name_models(fig: FigureBase, ax: Axes, columns: int) -> None:
    handles, labels = ax.get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=9)
