"""What is predicted without a model: one energy for each element, and no forces."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch_geometric.data import Data

from ocp_physmol.model.elements import composition
from ocp_physmol.progress import chunks


@dataclass(frozen=True)
class Reference:
    """Energies of the elements [119] (eV), fitted to training data; for one molecule, its mean.

    `cells_vary` says whether periodic frames of the same atoms have different cells.
    """

    element_energies: np.ndarray
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
        fitted = np.linalg.lstsq(np.array(counts), np.array(energies), rcond=None)[0]
        return cls(fitted, vary)

    def energies(self, frames: Sequence[Data]) -> np.ndarray:
        """Energies [B] (eV) of frames that consist of separate atoms."""
        return np.array([composition(frame) for frame in frames]) @ self.element_energies
