"""What is predicted without a model: one energy for each element, and no forces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from torch_geometric.data import Data

from ocp_physmol.model.elements import composition
from ocp_physmol.progress import chunks


@dataclass(frozen=True)
class Reference:
    """Energies of the elements [119] (eV), fitted to training data; for one molecule, its mean.

    `known` [119] (bool) are the elements of the training data, and `cells_vary` says whether
    periodic frames of the same atoms have different cells.
    """

    element_energies: np.ndarray
    known: np.ndarray
    cells_vary: bool

    @classmethod
    def of(cls, frames: Sequence[Data]) -> "Reference":
        """Fitted to labelled frames by least squares."""
        counts, energies, vary = [], [], False
        cells: dict[bytes, np.ndarray] = {}  # of the first frame with these atoms
        for chunk in chunks(frames, 256, "Energies of the elements", "frames"):
            for frame in chunk:
                counts.append(composition(frame))
                energies.append(float(frame.energy))
                if frame.pbc.any():
                    cell = frame.cell.numpy()
                    first = cells.setdefault(frame.atomic_numbers.numpy().tobytes(), cell)
                    vary = vary or not np.allclose(first, cell, atol=1e-4)
        occurring = np.array(counts)
        fitted = np.linalg.lstsq(occurring, np.array(energies), rcond=None)[0]
        return cls(fitted, occurring.any(axis=0), vary)

    def energies(self, frames: Sequence[Data]) -> np.ndarray:
        """Energies [B] (eV) of frames that consist of separate atoms."""
        return np.array([composition(frame) for frame in frames]) @ self.element_energies

    def unknown(self, frames: Sequence[Data]) -> tuple[list[str], int]:
        """Elements that the training data lack, by symbol, and how many frames have any."""
        lacking = np.array([composition(frame) > 0 for frame in frames]) & ~self.known
        symbols = [chemical_symbols[z] for z in np.flatnonzero(lacking.any(axis=0))]
        return symbols, int(lacking.any(axis=1).sum())
