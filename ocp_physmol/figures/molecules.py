"""Drawings of molecules in several states."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase.data import chemical_symbols, covalent_radii
from ase.data.colors import jmol_colors
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Polygon
from scipy.spatial.transform import Rotation

from ocp_physmol.figures.style import drawn, literal
from ocp_physmol.geometry import bonds

INCHES_PER_ANGSTROM = 0.3  # at which all molecules of a figure are drawn
MARGIN = 0.75  # Angstrom, around the outermost nuclei
RADIUS = 0.55  # of an atom, in covalent radii
BOND_WIDTH = 0.2  # Angstrom
EDGE = "#333333"
BOND_COLOR = "#8c8c8c"
# molecules are turned a little, so that atoms of planar or symmetric ones do not hide each other
TILT = Rotation.from_euler("XY", [0.25, 0.15]).as_matrix()
THUMBNAIL = 1.9  # inches
THUMBNAIL_TILT = np.array([[0.98, 0.05, -0.2], [0, 0.97, 0.25], [0.2, -0.24, 0.95]])


def molecules_figure(path: Path, rows: Sequence[dict]) -> None:
    """Draw molecules, a row each, in several states side by side, all at one scale.

    Each row has a `title`, `numbers` and, by panel title, `panels` of positions [n, 3] in Angstrom.
    A panel whose positions are not finite says so.
    """
    with drawn(path, *figure_size(rows)) as fig:
        draw_molecules(fig, rows)


def figure_size(rows: Sequence[dict]) -> tuple[float, float]:
    """Width and height, in inches, that `draw_molecules` needs."""
    extents = np.array([_seen(row)[1] for row in rows])
    width, heights = 2 * INCHES_PER_ANGSTROM * extents[:, 0].max(), extents[:, 1]
    columns = max(len(row["panels"]) for row in rows)
    titles = 0.55 * len(rows)  # of two lines
    return width * columns + 0.5, 2 * INCHES_PER_ANGSTROM * heights.sum() + titles + 0.4


def draw_molecules(fig: FigureBase, rows: Sequence[dict]) -> None:
    """Draw the rows of `molecules_figure` and a legend of their elements in a figure or a part."""
    projected, halves = zip(*map(_seen, rows))
    extents = np.array(halves)
    half_width = extents[:, 0].max()
    shape = len(rows), max(map(len, projected))
    axes = fig.subplots(*shape, squeeze=False, gridspec_kw={"height_ratios": extents[:, 1]})
    for ax in axes.flat:
        ax.set_axis_off()
    for row, of_row, panels, (_, half_height) in zip(rows, axes, projected, extents):
        for ax, title, positions in zip(of_row, row["panels"], panels):
            draw_molecule(ax, row["numbers"], positions)
            ax.set(xlim=(-half_width, half_width), ylim=(-half_height, half_height), aspect="equal")
            ax.set_title(literal(title), fontsize=9)
        of_row[0].text(-0.01, 0.5, row["title"], transform=of_row[0].transAxes, rotation=90,
                       va="center", ha="right", fontsize=10, fontweight="bold")  # fmt: skip
    elements = np.unique(np.concatenate([row["numbers"] for row in rows]))
    handles = [
        Line2D([], [], ls="", marker="o", ms=8, mfc=jmol_colors[n], mec=EDGE, mew=0.7)
        for n in elements
    ]
    fig.legend(handles, [chemical_symbols[n] for n in elements], loc="outside lower center",
               ncols=len(elements), fontsize=9, handletextpad=0.1)  # fmt: skip


def thumbnail(path: Path, drawing: dict, key: str) -> None:
    """Draw the positions that `drawing` has under a key, from the widest side of its `reference`.

    They are relative to the centre of the reference, in Angstrom. Atoms far from it are cut off.
    """
    reference = np.array(drawing["reference"])
    axes = _widest_side(reference) @ THUMBNAIL_TILT
    half = np.abs(reference @ axes)[:, :2].max() + 1.0  # Angstrom
    with drawn(path, THUMBNAIL, THUMBNAIL, dpi=110, transparent=True) as fig:
        fig.set_layout_engine("none")
        ax = fig.add_axes((0, 0, 1, 1), xlim=(-half, half), ylim=(-half, half), aspect="equal")
        ax.set_axis_off()
        positions = np.array(drawing[key], dtype=float) @ axes
        draw_molecule(ax, np.array(drawing["numbers"]), positions)


def draw_molecule(ax: Axes, numbers: np.ndarray, positions: np.ndarray) -> None:
    """One molecule as balls and sticks, seen along -z; `positions` [n, 3] in Angstrom."""
    if not np.isfinite(positions).all():
        ax.text(0, 0, "exploded", ha="center", va="center", fontsize=9, color="#a11d33")
        return
    radii, depth = RADIUS * covalent_radii[numbers], positions[:, 2]
    order = 2 + depth / 100  # Matplotlib paints the higher ones later
    for i, j in bonds(numbers, positions):
        along = positions[j] - positions[i]
        along /= np.linalg.norm(along)
        across = np.cross((0, 0, 1), along)
        half = BOND_WIDTH / 2 * across / np.maximum(np.linalg.norm(across), 1e-9)
        # a little inside, for the balls are round and the stick is cut off straight
        start = positions[i] + 0.9 * radii[i] * along
        end = positions[j] - 0.9 * radii[j] * along
        corners = np.array([start + half, end + half, end - half, start - half])[:, :2]
        zorder = (order[i] + order[j]) / 2
        ax.add_patch(Polygon(corners, fc=BOND_COLOR, ec=EDGE, lw=0.6, zorder=zorder))
    # atoms further back are paler
    back = (depth.max() - depth) / max(np.ptp(depth), 1.0)
    colors = jmol_colors[numbers] + 0.45 * back[:, None] * (1 - jmol_colors[numbers])
    for center, radius, color, zorder in zip(positions[:, :2], radii, colors, order):
        ax.add_patch(Circle(center, radius, fc=color, ec=EDGE, lw=0.7, zorder=zorder))


def _widest_side(positions: np.ndarray) -> np.ndarray:
    """Axes [3, 3] to project centred positions [n, 3] on, so that z is the shortest direction."""
    axes = np.linalg.svd(positions)[2].T
    return axes * [1, 1, np.sign(np.linalg.det(axes))]  # no mirror image


def _seen(row: dict) -> tuple[np.ndarray, np.ndarray]:
    """Positions [panels, n, 3] from the widest side of the first panel; half the width and height.

    All panels fit in them, but for atoms more than twice as far out as any of the first panel. The
    half width is at least 3 Angstrom, for titles.
    """
    positions = np.array([*row["panels"].values()], dtype=float)
    positions -= positions[0].mean(axis=0)
    projected = positions @ (_widest_side(positions[0]) @ TILT)
    distances = np.abs(projected[..., :2])
    furthest = distances[np.isfinite(projected).all(axis=-1)].max(axis=0)
    half = np.maximum(np.minimum(furthest, 2 * distances[0].max()) + MARGIN, [3.0, 1.3])
    return projected, half
