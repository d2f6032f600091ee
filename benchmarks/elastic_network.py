"""How far the elastic network is from DFT: frequencies of QM9's molecules, and of springs alone.

python benchmarks/elastic_network.py --data data/quickstart/train --molecules 500
"""

import argparse

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import numpy as np
import torch
from ase import Atoms

from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.evaluation.vibrations import BAND_EDGES, BANDS
from ocp_physmol.harmonic import harmonic_frequencies
from ocp_physmol.pushes.elastic_network import ElasticNetwork


def frequencies(structure) -> np.ndarray:
    """Of DFT, the network and its springs alone, [3, modes], each sorted, 1/cm."""
    dft = np.sort(structure.frequencies.numpy())
    natoms = torch.tensor([len(structure.pos)])
    network = ElasticNetwork(structure.pos.double(), structure.atomic_numbers, natoms)
    atoms = Atoms(structure.atomic_numbers.int().numpy(), structure.pos.numpy())
    atoms.set_masses("most_common")
    curvatures = network.hessian(), network.springs_hessian()
    found = [harmonic_frequencies(atoms, one[0].numpy(), len(dft)) for one in curvatures]
    return np.stack([dft, *found])


def print_table(title: str, dft: np.ndarray, found: np.ndarray) -> None:
    """Ratios and errors of frequencies [modes], by band."""
    band = np.digitize(dft, BAND_EDGES)
    print(f"\n{title:15} {'median ratio':>12} {'MAE (1/cm)':>10} {'imaginary':>10}")
    for name, chosen in [("all", band >= 0), *((n, band == b) for b, n in enumerate(BANDS))]:
        error = np.abs(found - dft)[chosen].mean()
        ratio, lost = np.median((found / dft)[chosen]), (found < 0)[chosen].mean()
        print(f"{name:15} {ratio:12.2f} {error:10.0f} {lost:10.1%}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="data/quickstart/train", help="LMDB with frequencies")
    parser.add_argument("--molecules", type=int, default=500, help="the first so many")
    args = parser.parse_args()
    data = PhysMolLmdbDataset({"src": args.data})
    pairs = [frequencies(data[i]) for i in range(min(args.molecules, len(data)))]
    dft, network, springs = np.concatenate(pairs, axis=1)
    print(f"{len(pairs)} molecules, {len(dft)} modes; frequencies beside DFT's")
    print_table("network", dft, network)
    print_table("springs alone", dft, springs)


if __name__ == "__main__":
    main()
