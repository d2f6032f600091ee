"""Per-element constants. Atom types are atomic numbers 1..118; type 0 is the [mask] token (3.5)."""

import warnings
from functools import cache

import torch
from ase.data import covalent_radii as ase_covalent_radii

MASK_TYPE = 0
MAX_ATOMIC_NUMBER = 118
NUM_TYPES = MAX_ATOMIC_NUMBER + 1

UNKNOWN_RADIUS = 1.5  # Angstrom, where ASE has no measured radius (Z > 96)
MASK_RADIUS = 1.0  # Angstrom, the same whatever is masked


@cache
def _pauling() -> list[float]:
    from pymatgen.core.periodic_table import Element  # slow to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [Element.from_Z(z).X for z in range(1, NUM_TYPES)]


def electronegativities() -> torch.Tensor:
    """Pauling electronegativities by type, from pymatgen. Shape [119], dimensionless.

    Elements without a Pauling value (He, Ne, Ar and most of Z > 102) and the [mask] token have 0.
    """
    return torch.tensor([0.0, *_pauling()]).nan_to_num()


def covalent_radii() -> torch.Tensor:
    """Covalent radii by type, from ASE (Cordero 2008). Shape [119], Angstrom."""
    radii = torch.tensor(ase_covalent_radii[:NUM_TYPES], dtype=torch.get_default_dtype())
    radii[97:] = UNKNOWN_RADIUS  # ASE's placeholder there is 0.2
    radii[MASK_TYPE] = MASK_RADIUS
    return radii
