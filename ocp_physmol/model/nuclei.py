"""Constants of the repulsion of nuclei: Ziegler, Biersack & Littmark, The Stopping and Range of
Ions in Solids (1985). Covalent radii are ASE's (Cordero 2008)."""

from ase.data import covalent_radii

UNKNOWN_RADIUS = 1.5  # Angstrom, where ASE has no measured radius (Z > 96)
RADII = covalent_radii.copy()  # [119], Angstrom, by atomic number
RADII[97:] = UNKNOWN_RADIUS  # ASE's placeholder there is 0.2

COULOMB = 14.39964  # e^2 / (4 pi epsilon_0), eV Angstrom
SCREENING_LENGTH = 0.46850  # Angstrom, 0.8854 Bohr radii
SCREENING = (  # amplitudes and rates of the universal function
    (0.18175, 3.19980),
    (0.50986, 0.94229),
    (0.28022, 0.40290),
    (0.02817, 0.20162),
)
CORE = 0.15  # Angstrom; below it the energy levels off, so that it is finite for atoms in one place
REACH = 0.8  # sums of two covalent radii; triple bonds, the shortest, feel 0.3 eV/A at most
