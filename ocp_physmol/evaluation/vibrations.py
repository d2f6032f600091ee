"""Harmonic frequencies of models beside those of DFT: is the energy's curvature right?"""

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
from ase import Atoms
from tabulate import tabulate
from torch_geometric.data import Data
from tqdm import tqdm

from ocp_physmol.errors import UserError
from ocp_physmol.evaluation.structure_tasks import CHECKPOINTS
from ocp_physmol.figures.vibrations import vibrations_figure
from ocp_physmol.files import write_json
from ocp_physmol.harmonic import DISPLACEMENT, displaced, hessian, normal_modes
from ocp_physmol.option_types import COUNT, PATH
from ocp_physmol.relaxation.batched import Descent, placed, relax
from ocp_physmol.relaxation.calculator import open_model
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

PLACES = ("minimum", "reference")  # the model's own minimum, and that of the data
BAND_EDGES = (1000, 2000)  # 1/cm, of DFT: soft modes; bends and bonds; triple bonds and X-H
BANDS = ("below 1000", "1000 to 2000", "2000 and above")
TO_MINIMUM = Descent(steps=300, fmax=0.005)  # frequencies are defined where forces vanish
COPIES = 128  # displaced copies of a molecule in a batch
FOLLOWED = 3  # times at most that a molecule leaves a saddle point along its lowest mode:
DOWNHILL = 0.3  # Angstrom, by which the atom moves that moves most; less is soon without force


class Vibrating(NamedTuple):
    """A molecule somewhere, and its normal modes there."""

    structure: Data
    converged: bool  # whether the relaxation that led there was; True without one
    pairs: np.ndarray | None  # [modes, 2], DFT's and the model's frequencies, 1/cm, both sorted
    downhill: np.ndarray  # [n, 3], where the atoms go along the lowest mode, Angstrom

    @property
    def is_saddle(self) -> bool:
        """Whether the energy falls along any mode."""
        return self.pairs is not None and bool((self.pairs[:, 1] < 0).any())


def hessian_of(predictor: Predictor, structure: Data) -> np.ndarray:
    """Second derivatives of the energy, [3n, 3n] in eV/A^2, as central differences of forces."""
    # single precision has most digits around the origin
    centered = (structure.pos - structure.pos.mean(dim=0)).numpy()
    copies = [placed(structure, positions) for positions in displaced(centered)]
    return hessian(np.array(predictor.energies_and_forces(copies, COPIES)[1], dtype=float))


def vibrations(
    predictor: Predictor, structures: Sequence[Data], at: str = "minimum", name: str = ""
) -> dict:
    """Compare a model's harmonic frequencies with the data's, molecule by molecule, both sorted.

    Args:
        structures: at the data's minima, with DFT's `frequencies` [3n - 6] or [3n - 5], 1/cm.
        at: "minimum", where a relaxation with the model from the data's geometry ends, converged
            or not, and where that is a saddle point, downhill from there; or "reference", that
            geometry itself, without its remaining forces.

    Returns:
        Over all modes `modes` (their number), `mae_per_cm`, `median_ratio` (model to DFT) and
        `imaginary_fraction`, and in `bands` the same by BANDS; imaginary frequencies are negative.
        `pairs`, [DFT, model] of each mode, 1/cm. `molecules` (their number), `failed` (those
        without finite frequencies, in none of the other numbers), `imaginary_molecule_fraction` (of
        molecules with any), `saddle_fraction` (of those with any before they went downhill),
        `converged_fraction` (of relaxations; None at the reference).
    """
    relaxed = at == "minimum"
    if relaxed:
        starts = [s.pos.numpy() for s in structures]
        places = _relaxed(predictor, structures, starts, f"{name} minima")
    else:
        bar = tqdm(structures, f"{name} Hessians", unit=" molecules", mininterval=1)
        places = [_vibrating(predictor, s) for s in bar]
    finite = [place.pairs is not None for place in places]
    saddles = [place.is_saddle for place in places]
    for _ in range(FOLLOWED if relaxed else 0):
        _leave_saddles(predictor, places, f"{name} downhill")
    found = [place.pairs for place in places if place.pairs is not None]
    pairs = np.concatenate([np.empty((0, 2)), *found])
    band = np.digitize(pairs[:, 0], BAND_EDGES)
    return {
        **_summary(pairs),
        "imaginary_molecule_fraction": _share([p.is_saddle for p in places], finite),
        "saddle_fraction": _share(saddles, finite),
        "converged_fraction": float(np.mean([p.converged for p in places])) if relaxed else None,
        "molecules": len(places),
        "failed": len(places) - len(found),
        "bands": {name: _summary(pairs[band == b]) for b, name in enumerate(BANDS)},
        "band_edges_per_cm": list(BAND_EDGES),
        "pairs": pairs.round(1).tolist(),
    }


def _relaxed(
    predictor: Predictor, structures: Sequence[Data], starts: list[np.ndarray], title: str
) -> list[Vibrating]:
    """Structures where relaxations from positions [n, 3] end."""
    ends = relax(predictor, structures, starts, TO_MINIMUM, title=title)
    bar = tqdm(zip(structures, ends), f"{title}, Hessians", len(ends), mininterval=1)
    return [
        _vibrating(predictor, placed(s, end.positions), end.largest_force < TO_MINIMUM.fmax)
        for s, end in bar
    ]


def _leave_saddles(predictor: Predictor, places: list[Vibrating], title: str) -> None:
    """Relax again what is at a saddle point, from beside it, and put in its place where it ends."""
    stuck = [k for k, place in enumerate(places) if place.is_saddle]
    if not stuck:
        return
    structures = [places[k].structure for k in stuck]
    starts = [places[k].downhill for k in stuck]
    for k, place in zip(stuck, _relaxed(predictor, structures, starts, title)):
        places[k] = place


def _vibrating(predictor: Predictor, structure: Data, converged: bool = True) -> Vibrating:
    atoms = Atoms(structure.atomic_numbers.long().numpy(), structure.pos.numpy())
    atoms.set_masses("most_common")  # the isotopes that the data has
    finite = np.isfinite(atoms.positions).all()  # models refuse others
    if not finite or not np.isfinite(curved := hessian_of(predictor, structure)).all():
        return Vibrating(structure, False, None, atoms.positions)
    dft = np.sort(structure.frequencies.double().numpy())
    frequencies, modes = normal_modes(atoms, curved, len(dft))
    downhill = atoms.positions + DOWNHILL * modes[:1].sum(0)
    return Vibrating(structure, converged, np.column_stack([dft, frequencies]), downhill)


def _share(which: list[bool], of: list[bool]) -> float | None:
    """How many of some are among others; None where there are none."""
    return sum(which) / sum(of) if any(of) else None


def _summary(pairs: np.ndarray) -> dict:
    """Numbers over some modes [m, 2]; None where there are none to average over."""
    dft, model = pairs.T
    some = len(pairs) > 0
    return {
        "modes": len(pairs),
        "mae_per_cm": float(np.abs(model - dft).mean()) if some else None,
        "median_ratio": float(np.median(model / dft)) if some else None,
        "imaginary_fraction": float((model < 0).mean()) if some else None,
    }


def require_frequencies(data: Path) -> None:
    """Raise a UserError if an LMDB has no frequencies to compare with."""
    if "frequencies" not in open_labelled(data)[0]:
        raise UserError(
            f"--data {data} holds no 'frequencies'; make it anew with ocp-physmol data qm9"
        )


@click.command("frequencies", context_settings={"show_default": True}, params=[CHECKPOINTS])
@click.option("--data", type=PATH, default="data/quickstart/test", help="LMDBs of QM9.")
@click.option("--molecules", type=COUNT, default=64, help="Take the first so many.")
@click.option("--output", type=PATH, default="runs/frequencies", help="Folder.")
def command(checkpoints: dict[str, Path], data: Path, molecules: int, output: Path) -> None:
    """Compare the harmonic frequencies of models with those of QM9.

    At each model's own minima and at those of the data. Prints a table; writes frequencies.json and
    a figure.
    """
    require_frequencies(data)
    structures = list(islice(open_labelled(data), molecules))
    results = {}
    for name, checkpoint in checkpoints.items():
        predictor = open_model(checkpoint)
        for at in PLACES:
            label = f"{name}, {at}"
            results[label] = vibrations(predictor, structures, at, label)
    keys = ("median_ratio", "saddle_fraction", "imaginary_fraction", "converged_fraction",
            "failed", "mae_per_cm")  # fmt: skip
    rows = [
        [name, *(r[key] for key in keys), *(band["mae_per_cm"] for band in r["bands"].values())]
        for name, r in results.items()
    ]
    headers = ["", "ratio", "saddles", "imag.", "conv.", "failed", "MAE", *BANDS]
    formats = ("", ".2f", ".0%", ".0%", ".0%", "", *[".0f"] * 4)
    click.echo("\nHarmonic frequencies beside DFT's; MAE in 1/cm, by band of DFT's frequency\n")
    click.echo(tabulate(rows, headers, floatfmt=formats, missingval="-"))
    vibrations_figure(output / "frequencies.png", results)
    protocol = {**vars(TO_MINIMUM), "displacement": DISPLACEMENT}
    report = {"data": str(data), "protocol": protocol, "models": results}
    write_json(output / "frequencies.json", report)
    click.echo(f"\nWritten: {output / 'frequencies.json'} and the figure beside it")
