"""The look that all figures share, and how a figure becomes a file."""

import base64
import mimetypes
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

STYLE: dict[Any, Any] = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "savefig.dpi": 150,
    "svg.fonttype": "none",  # text stays text
    # a box is the middle half, its whiskers reach over 90 %
    "boxplot.whiskers": (5, 95),
    "boxplot.showfliers": False,
    "boxplot.patchartist": True,
    "boxplot.medianprops.color": "black",
}
GREY = "#555555"
GUIDE: dict[str, Any] = {"color": GREY, "lw": 1, "ls": "--"}  # a line to compare with
# Okabe and Ito's, which colour-blind people can tell apart
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")


def literal(text: str) -> str:
    """Text in which matplotlib finds no formula, such as the name of a file."""
    return text.replace("$", r"\$")


@contextmanager
def drawn(path: Path, width: float, height: float, **saving: Any) -> Iterator[Figure]:
    """A figure of this size in inches to draw on, which is written at the end.

    The path's suffix (.png, .svg, .pdf) says the kind of file; folders above it are made. `saving`
    are options of `Figure.savefig`. Without pyplot, a notebook keeps its own backend.
    """
    with matplotlib.rc_context(STYLE):
        fig = Figure((width, height), layout="constrained")
        yield fig
        path.parent.mkdir(parents=True, exist_ok=True)
        fig.savefig(path, **saving)


def as_data(suffix: str, draw: Callable[..., None], *content: object) -> str:
    """The data URI of what `draw(path, *content)` writes to a path with this suffix."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"figure{suffix}")
        draw(path, *content)
        data = base64.b64encode(path.read_bytes()).decode()
    return f"data:{mimetypes.types_map[suffix]};base64,{data}"
