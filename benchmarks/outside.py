"""Molecules unlike those of QM9, relaxed from where RDKit places them: python benchmarks/outside.py

Fifty drugs and natural substances of 10 to 25 heavy atoms. Bonds that break or form, and doubts of
the methods themselves, are counted; minima are compared with GFN2-xTB's.
"""

from pathlib import Path

import click
import numpy as np
from tabulate import tabulate

from ocp_physmol.calculators.pool import Refusal
from ocp_physmol.errors import exit_on_user_error
from ocp_physmol.molecules.methods import METHODS, Method, open_methods
from ocp_physmol.molecules.relax import moved_by, remarks
from ocp_physmol.molecules.relaxation import relax
from ocp_physmol.molecules.structures import Structure, read
from ocp_physmol.option_types import COUNT, POSITIVE

LIST = Path(__file__).with_name("drug_like.smi")
REFERENCE = "gfn2"


@click.command(params=[METHODS], context_settings={"show_default": True})
@click.option("--fmax", type=POSITIVE, default=0.01, help="eV/Å.")
@click.option("--steps", type=COUNT, default=500)
def main(methods: tuple[str, ...], fmax: float, steps: int) -> None:
    """Relax the molecules with each method, and with GFN2-xTB, from where RDKit places them."""
    lines = [line.split() for line in LIST.read_text().splitlines()]
    structures = [read([], [smiles])[0]._replace(name=name) for smiles, name in lines]
    begins = [structure.atoms for structure in structures]
    opened = open_methods([*(methods or ["physmol-gfn2"]), REFERENCE], [])
    ends = {name: relax(method, begins, fmax, steps, name) for name, method in opened.items()}
    rows = [
        [name, *summary(structures, found, ends[REFERENCE], opened[name])]
        for name, found in ends.items()
    ]
    headers = ["", "answered", "converged", "RMSD to GFN2's, mean (Å)", "median", "doubted",
               "bonds changed"]  # fmt: skip
    print(tabulate(rows, headers, floatfmt=".3f"))


def summary(structures: list[Structure], found: list, references: list, method: Method) -> list:
    """Of one method: how many it answers, brings to an end and doubts, how far from GFN2-xTB's
    minima it ends, and whose bonds are others than before."""
    apart, changed, converged, doubted = [], [], 0, 0
    for structure, end, reference in zip(structures, found, references):
        if isinstance(end, Refusal) or isinstance(reference, Refusal):
            continue
        apart.append(moved_by(reference.atoms, end.atoms))
        converged += end.converged
        doubted += bool(method.doubts(end.atoms, end.results))
        said = remarks(structure.atoms, end, method)
        if any(remark.endswith(("broken", "formed")) for remark in said):
            changed.append(structure.name)
    numbers = np.mean(apart), np.median(apart), doubted
    return [len(apart), converged, *numbers, ", ".join(changed) or "-"]


if __name__ == "__main__":
    with exit_on_user_error():
        main()
