"""Figures of the report, as data that a page can hold."""

import base64
import tempfile
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from collections.abc import Callable

import matplotlib.pyplot as plt
import numpy as np

from ocp_physmol.figures.bond_parameters import bond_parameters_figure
from ocp_physmol.figures.distributions import DO_NOTHING, PALETTE, distribution_figure
from ocp_physmol.figures.molecules import draw_molecule, save
from ocp_physmol.figures.vibrations import vibrations_figure

KINDS = {".png": "image/png", ".svg": "image/svg+xml"}
SIDE_BY_SIDE = 2  # models in a figure of vibrations, for narrow screens
PANEL = 1.9  # inches, of one molecule
TILT = np.array([[0.98, 0.05, -0.2], [0, 0.97, 0.25], [0.2, -0.24, 0.95]])  # so that less is hidden


def as_data(draw: Callable[[Path], None], suffix: str) -> str:
    """The data URI of what `draw` writes to the path that it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"figure{suffix}")
        draw(path)
        return f"data:{KINDS[suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def distributions(records: list[dict], noise: str) -> str:
    """The paper's Fig. 2b, c."""
    results = {record["name"]: record["recovery"][noise] for record in records}
    nothing = records[0]["recovery"][noise]["do_nothing_delta_p_a"] if noise != "0" else None
    return as_data(lambda path: distribution_figure(path, results, nothing), ".svg")


def vibrations(records: list[dict]) -> list[str]:
    """Model against DFT, a few models a figure."""
    groups = [records[i : i + SIDE_BY_SIDE] for i in range(0, len(records), SIDE_BY_SIDE)]
    figures = []
    for group in groups:
        results = {record["name"]: record["vibrations"]["minimum"] for record in group}
        figures.append(as_data(lambda path, r=results: vibrations_figure(path, r), ".png"))
    return figures


def bond_parameters(record: dict) -> str:
    """What one PhysMol has learned of Eq. 5."""
    return as_data(lambda path: bond_parameters_figure(path, record["bond_parameters"]), ".png")


def curve(records: list[dict]) -> str:
    """Delta P against training time."""
    return as_data(lambda path: _curve(path, records), ".svg")


def _curve(path: Path, records: list[dict]) -> None:
    records = sorted(records, key=lambda record: record["seconds"]["used"])
    seconds = [record["seconds"]["used"] for record in records]
    fig, ax = plt.subplots(figsize=(5.6, 3.6), layout="constrained")
    for color, (noise, result) in zip(PALETTE, records[0]["recovery"].items()):
        means = [record["recovery"][noise]["delta_p_a"] for record in records]
        pushed = noise != "0"
        label = f"pushed by {noise} Å" if pushed else "not pushed"
        ax.plot(seconds, means, "o-", color=color, label=label)
        if pushed:
            ax.axhline(result["do_nothing_delta_p_a"], color=color, ls="--", lw=1)
    ax.plot([], [], color=DO_NOTHING, ls="--", lw=1, label="do nothing")
    ax.set(xscale="log", xlabel="training (s)", ylabel="mean ΔP (Å)")
    ax.set_xticks(seconds, [f"{s:.0f}" for s in seconds])
    ax.minorticks_off()
    ax.set_ylim(bottom=0)
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False, fontsize=9)
    save(fig, path)


def molecule(drawn: dict, key: str) -> str:
    """One molecule of a record's `pictures`; `key` says where its atoms are."""
    return as_data(lambda path: _molecule(path, drawn, key), ".png")


def _molecule(path: Path, drawn: dict, key: str) -> None:
    """All states of a molecule are seen from the side on which its minimum is widest."""
    reference = np.array(drawn["reference"])
    axes = np.linalg.svd(reference)[2].T
    axes = axes * [1, 1, np.sign(np.linalg.det(axes))] @ TILT  # no mirror image
    half = np.abs(reference @ axes)[:, :2].max() + 1.0  # Angstrom; what is further is cut off
    fig, ax = plt.subplots(figsize=(PANEL, PANEL))
    fig.subplots_adjust(0, 0, 1, 1)
    ax.set(xlim=(-half, half), ylim=(-half, half), aspect="equal")
    ax.set_axis_off()
    draw_molecule(ax, np.array(drawn["numbers"]), np.array(drawn[key], dtype=float) @ axes)
    fig.savefig(path, dpi=110, transparent=True)
    plt.close(fig)
