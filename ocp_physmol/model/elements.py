"""Per-element constants. Atom types are atomic numbers 1..118; type 0 is the [mask] token (3.5)."""

import warnings
from functools import cache

import numpy as np
import torch
from torch_geometric.data import Data

from ocp_physmol.model.nuclei import RADII

MASK_TYPE = 0
MAX_ATOMIC_NUMBER = 118
NUM_TYPES = MAX_ATOMIC_NUMBER + 1

MASK_RADIUS = 1.0  # Angstrom, the same whatever is masked
MASK_PLACE = (-9.0, -9.0)  # period and group


@cache
def _elements() -> list[tuple[float, int, int]]:
    """Pauling electronegativity, period and group of each element."""
    from pymatgen.core.periodic_table import Element  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        elements = [Element.from_Z(z) for z in range(1, NUM_TYPES)]
        return [(element.X, element.row, element.group) for element in elements]


def electronegativities() -> torch.Tensor:
    """Pauling electronegativities by type, from pymatgen. Shape [119], dimensionless.

    Elements without a Pauling value (He, Ne, Ar and most of Z > 102) and the [mask] token have 0.
    """
    return torch.tensor([0.0, *(x for x, _, _ in _elements())]).nan_to_num()


def periods_and_groups() -> torch.Tensor:
    """Period and group by type, from pymatgen; f elements are in group 3. Shape [119, 2].

    The [mask] token is far from all elements.
    """
    return torch.tensor([MASK_PLACE, *((period, group) for _, period, group in _elements())])


def covalent_radii() -> torch.Tensor:
    """Covalent radii by type, from ASE (Cordero 2008). Shape [119], Angstrom."""
    radii = torch.tensor(RADII, dtype=torch.get_default_dtype())
    radii[MASK_TYPE] = MASK_RADIUS
    return radii


def composition(structure: Data) -> np.ndarray:
    """The number of atoms of each type in a structure, [119]."""
    return np.bincount(structure.atomic_numbers.int().numpy(), minlength=NUM_TYPES)
