"""Fit the constants of the force field, and compare its frequencies with DFT's.

The fit is to second derivatives of GFN2-xTB (the extra xtb) at DFT's minima, with bonds as stiff as
DFT's frequencies say: linear least squares, in the molecules' own modes, so that what a constant
does to frequencies counts.

python benchmarks/force_field.py --data data/quickstart/train --molecules 400 --others 120 --write
"""

import argparse
import json

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import numpy as np
import torch
from ase import Atoms
from elastic_network import print_table
from tqdm import tqdm

from ocp_physmol.calculators.pool import CalculatorPool, Source
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.harmonic import PER_CM, harmonic_frequencies, internal_coordinates
from ocp_physmol.pushes.curvature import curved_molecules
from ocp_physmol.pushes.elastic_network import ElasticNetwork
from ocp_physmol.pushes.force_field import BASE, CONSTANTS, SORTS, ForceField
from ocp_physmol.pushes.stretches import Curved, Stretches

SOFT = 300.0  # 1/cm; softer modes weigh as if they had this frequency
MIXED = 0.7  # weight of what mixes two modes, beside what moves one
RIDGE = 1e-3  # of the fit, beside the mean of its matrix's diagonal


def field_of(molecule: Curved) -> ForceField:
    pos, numbers = torch.tensor(molecule.positions), torch.tensor(molecule.numbers)
    return ElasticNetwork(pos, numbers, torch.tensor([len(numbers)])).force_field()


def modes_of(molecule: Curved, stretches: Stretches) -> tuple[np.ndarray, np.ndarray]:
    """The teacher's modes [modes, 3n] and curvatures [modes], bonds corrected."""
    atoms = Atoms(molecule.numbers, molecule.positions)
    atoms.set_masses("most_common")
    to_internal = internal_coordinates(atoms, len(molecule.frequencies))
    total = molecule.hessian + stretches.hessian(molecule.numbers, molecule.positions)
    curvatures, modes = np.linalg.eigh(to_internal @ total @ to_internal.T)
    return modes.T @ to_internal, curvatures


def fitted(molecules: list[Curved]) -> dict[int, float]:
    """The constants by the numbers of their kinds."""
    stretches = Stretches.fitted(molecules)
    fields = [field_of(molecule) for molecule in molecules]
    kinds = sorted({kind for field in fields for kind in field.couplings.kind.tolist()})
    place = {kind: k for k, kind in enumerate(kinds)}
    normal, right = np.zeros((len(kinds), len(kinds))), np.zeros(len(kinds))
    for molecule, field in zip(tqdm(molecules, "Fit", unit=" molecules"), fields):
        modes, curvatures = modes_of(molecule, stretches)
        frequency = np.maximum(np.sqrt(np.abs(curvatures)) * PER_CM, SOFT)
        upper = np.triu_indices(len(modes))
        # d frequency / d curvature
        weight = (PER_CM**2 / (frequency[:, None] + frequency))[upper]
        weight *= np.where(upper[0] == upper[1], 1.0, MIXED)
        slopes = modes @ field.slopes[0].numpy().T  # [modes, T]
        share = np.zeros((len(kinds), len(weight)))
        for (_, i, j), kind, factor in zip(*(part.tolist() for part in field.couplings)):
            both = np.outer(slopes[:, i], slopes[:, j])
            share[place[kind]] += factor * ((both + both.T) / 2)[upper]
        share *= weight
        normal += share @ share.T
        right += share @ (np.diag(curvatures)[upper] * weight)
    ridge = RIDGE * np.diag(normal).mean() * np.eye(len(kinds))
    return dict(zip(kinds, np.linalg.solve(normal + ridge, right).tolist()))


def name_of(kind: int) -> str:
    parts = []
    while kind >= BASE:
        kind, part = divmod(kind, BASE)
        parts.append(part)
    return " ".join([SORTS[kind], *map(str, reversed(parts))])


def compare(molecules: list[Curved], table: dict[int, float]) -> None:
    """Print how far frequencies are from DFT's, by band."""
    pairs = []
    for molecule in molecules:
        atoms = Atoms(molecule.numbers, molecule.positions)
        atoms.set_masses("most_common")
        curvature = field_of(molecule).hessian(table)[0].numpy()
        dft = np.sort(molecule.frequencies)
        pairs.append(np.stack([dft, harmonic_frequencies(atoms, curvature, len(dft))]))
    dft, found = np.concatenate(pairs, axis=1)
    print(f"\n{len(molecules)} other molecules, {len(dft)} modes")
    print_table("force field", dft, found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data/quickstart/train", help="LMDB with frequencies")
    parser.add_argument("--molecules", type=int, default=400, help="to fit to")
    parser.add_argument("--others", type=int, default=120, help="to compare with DFT")
    parser.add_argument("--write", action="store_true", help=f"replace {CONSTANTS.name}")
    args = parser.parse_args()
    data = PhysMolLmdbDataset({"src": args.data})
    with CalculatorPool(Source.named("gfn2")) as pool:
        molecules = curved_molecules(pool, data, args.molecules + args.others, seed=0)
    table = fitted(molecules[: args.molecules])
    compare(molecules[args.molecules :], table)
    if args.write:
        named = {name_of(kind): round(value, 4) for kind, value in table.items()}
        CONSTANTS.write_text(json.dumps(named, indent=1) + "\n")
        print(f"\nWritten: {CONSTANTS}, {len(named)} constants")


if __name__ == "__main__":
    main()
