"""Drawings of molecules in several states."""

import matplotlib

matplotlib.use("Agg")

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.patches import Circle, Polygon

from ocp_physmol.geometry import bonds

INCHES_PER_ANGSTROM = 0.3  # at which all molecules of a figure are drawn
MARGIN = 0.75  # Angstrom, around the outermost nuclei
RADIUS = 0.55  # of an atom, in covalent radii
BOND_WIDTH = 0.2  # Angstrom
EDGE = "#333333"
BOND_COLOR = "#8c8c8c"


def molecules_figure(path: Path, rows: Sequence[dict]) -> None:
    """Draw molecules, a row each, in several states side by side, all at one scale.

    Args:
        path: the file to write, its kind by its suffix (.png, .svg, .pdf).
        rows: each with `title`, `numbers` and, by panel title, `panels` of positions [n, 3] in
            Angstrom. A panel whose positions are not finite says so.
    """
    height = sum(row_height(row) for row in rows) + 0.4
    fig = plt.figure(figsize=(figure_width(rows), height), layout="constrained")
    draw_molecules(fig, rows)
    save(fig, path)


def draw_molecules(fig, rows: Sequence[dict]) -> None:
    """Draw the rows of `molecules_figure` and a legend of their elements in a figure or a part."""
    extents = [_extent(_frame(row)) for row in rows]
    width = max(2 * extent[0] for extent in extents)
    columns = max(len(row["panels"]) for row in rows)
    axes = fig.subplots(
        len(rows), columns, squeeze=False,
        gridspec_kw={"height_ratios": [extent[1] for extent in extents]},
    )  # fmt: skip
    for ax in axes.flat:
        ax.set_axis_off()
    for row, of_row, extent in zip(rows, axes, extents):
        for ax, (title, projected) in zip(of_row, _frame(row).items()):
            draw_molecule(ax, row["numbers"], projected)
            ax.set(xlim=(-width / 2, width / 2), ylim=(-extent[1], extent[1]), aspect="equal")
            ax.set_title(title, fontsize=9)
        of_row[0].text(
            -0.01, 0.5, row["title"], transform=of_row[0].transAxes, rotation=90,
            va="center", ha="right", fontsize=10, fontweight="bold",
        )  # fmt: skip
    _legend(fig, sorted({int(n) for row in rows for n in row["numbers"]}))


def draw_molecule(ax: Axes, numbers: np.ndarray, positions: np.ndarray) -> None:
    """One molecule as balls and sticks, seen along -z; `positions` [n, 3] in Angstrom."""
    if not np.isfinite(positions).all():
        ax.text(0, 0, "exploded", ha="center", va="center", fontsize=9, color="#a11d33")
        return
    depth = positions[:, 2]
    for i, j in bonds(numbers, positions):
        _draw_bond(ax, numbers, positions, i, j)
    # what lies behind is paler
    back = (depth.max() - depth) / max(np.ptp(depth), 1.0)
    for i, (x, y, z) in enumerate(positions):
        color = _faded(jmol_colors[numbers[i]], back[i])
        ball = Circle((x, y), _radius(numbers[i]), fc=color, ec=EDGE, lw=0.7, zorder=_zorder(z))
        ax.add_patch(ball)


def _draw_bond(ax: Axes, numbers, positions, i: int, j: int) -> None:
    """From the surface of one ball to that of the other, in front of the further one."""
    along = positions[j] - positions[i]
    along /= np.linalg.norm(along)
    # a little inside, for the balls are round and the stick is cut off straight
    start = positions[i] + 0.9 * _radius(numbers[i]) * along
    end = positions[j] - 0.9 * _radius(numbers[j]) * along
    half = BOND_WIDTH / 2 * _across(along)
    corners = [point[:2] for point in (start + half, end + half, end - half, start - half)]
    depth = (positions[i, 2] + positions[j, 2]) / 2
    ax.add_patch(Polygon(corners, fc=BOND_COLOR, ec=EDGE, lw=0.6, zorder=_zorder(depth)))


def _radius(number: int) -> float:
    return RADIUS * covalent_radii[number]


def _zorder(depth: float) -> float:
    """Matplotlib paints what has the higher one later."""
    return 2 + depth / 100


def _across(along: np.ndarray) -> np.ndarray:
    """A unit vector in the plane of the paper, at right angles to a bond."""
    across = np.array([-along[1], along[0], 0.0])
    return across / max(np.linalg.norm(across), 1e-9)


def _faded(color: np.ndarray, share: float) -> np.ndarray:
    return color + 0.45 * share * (np.ones(3) - color)


def _frame(row: dict) -> dict[str, np.ndarray]:
    """The positions of all panels, seen from the side on which the first is widest."""
    first = np.asarray(next(iter(row["panels"].values())), dtype=float)
    center = first.mean(axis=0)
    axes = np.linalg.svd(first - center)[2].T
    axes[:, 2] *= np.sign(np.linalg.det(axes))  # no mirror image
    # a little turned, so that atoms do not hide behind others of planar or symmetric molecules
    axes = axes @ _turned(0.25, 0.15)
    return {t: (np.asarray(p, dtype=float) - center) @ axes for t, p in row["panels"].items()}


def _turned(about_x: float, about_y: float) -> np.ndarray:
    c, s = np.cos(about_x), np.sin(about_x)
    around_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    c, s = np.cos(about_y), np.sin(about_y)
    return around_x @ np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def _extent(panels: dict[str, np.ndarray]) -> np.ndarray:
    """Half of width and height (Angstrom) that all panels fit in, 3 at least in width for titles.

    Atoms further away than twice as far as any of the first panel are left outside.
    """
    first = np.abs(next(iter(panels.values())))[:, :2].max(axis=0)
    finite = [np.abs(p[np.isfinite(p).all(axis=1), :2]) for p in panels.values()]
    furthest = np.concatenate(finite).max(axis=0)
    return np.maximum(np.minimum(furthest, 2 * first.max()) + MARGIN, [3.0, 1.3])


def row_height(row: dict) -> float:
    """Of a row of `draw_molecules`, inches; the panels' titles have two lines."""
    return 2 * _extent(_frame(row))[1] * INCHES_PER_ANGSTROM + 0.55


def figure_width(rows: Sequence[dict]) -> float:
    """Of `draw_molecules`, inches."""
    widest = max(2 * _extent(_frame(row))[0] for row in rows)
    return widest * INCHES_PER_ANGSTROM * max(len(row["panels"]) for row in rows) + 0.5


def _legend(fig, numbers: list[int]) -> None:
    handles = [
        plt.Line2D([], [], ls="", marker="o", ms=8, mfc=jmol_colors[n], mec=EDGE, mew=0.7,
                   label=chemical_symbols[n])
        for n in numbers
    ]  # fmt: skip
    fig.legend(
        handles=handles, loc="outside lower center", ncols=len(handles), frameon=False,
        fontsize=9, handletextpad=0.1,
    )  # fmt: skip


def save(fig, path: Path) -> None:
    """Write a figure, with text as text in an SVG, and close it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with plt.rc_context({"svg.fonttype": "none"}):
        fig.savefig(path, dpi=150)
    plt.close(fig)
