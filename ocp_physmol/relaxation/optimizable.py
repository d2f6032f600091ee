"""What fairchem's batched L-BFGS moves."""

from typing import NamedTuple

import numpy as np
import torch
from fairchem.core.common.relaxation.optimizable import OptimizableBatch
from torch_geometric.data import Batch

from ocp_physmol.relaxation.predictor import Predictor, split


class Frame(NamedTuple):
    """A structure on its way to a minimum. Not finite after it has exploded."""

    positions: np.ndarray  # [n, 3], Angstrom
    energy: float  # eV, the model's
    forces: np.ndarray  # [n, 3], eV/Angstrom, the model's; zero on fixed atoms


class MovedBatch(OptimizableBatch):
    """A batch of which only positions change.

    It differs from fairchem's in two ways. Forces are computed anew after every move: fairchem's
    ignores moves below 1e-5 of the coordinates, so forces stay, L-BFGS divides by their change,
    and positions become NaN. And a structure that explodes, that is, whose positions are no longer
    finite, does not end the relaxation of the others, although models refuse such a batch.

    Args:
        batch: structures at their starts, in float32.
        record: whether `frames` of each structure are kept, one before each of its moves.
    """

    def __init__(self, batch: Batch, predictor: Predictor, record: bool = False) -> None:
        super().__init__(batch, trainer=predictor)  # which is asked for its device only
        self.frames: list[list[Frame]] = [[] for _ in range(len(batch))]
        self._record = record
        self._start = self.batch.pos.clone()
        self._predicted_at: torch.Tensor | None = None

    def current(self) -> list[Frame]:
        """Where each structure is now."""
        self._predict()
        energies = self.torch_results["energy"].tolist()
        positions = split(self.batch.pos, self.batch)
        return [*map(Frame, positions, energies, split(self.torch_results["forces"], self.batch))]

    def set_positions(self, positions: torch.Tensor) -> None:
        """Move the structures that have not converged, to positions [N, 3]."""
        if self._record:
            for frames, frame, moves in zip(self.frames, self.current(), self.update_mask):
                if moves:
                    frames.append(frame)
        super().set_positions(positions)

    def _predict(self) -> None:
        pos, former = self.batch.pos, self._predicted_at
        if former is None or not torch.allclose(former, pos, rtol=0, atol=0, equal_nan=True):
            self.torch_results = self._predict_finite()
            self._predicted_at = pos.clone()

    def _predict_finite(self) -> dict[str, torch.Tensor]:
        """Energies and forces, NaN for those of structures that have exploded."""
        batch = self.batch
        lost = ~torch.isfinite(batch.pos).all(dim=1)
        if not lost.any():
            return self.trainer.predict(batch)
        exploded = torch.zeros(len(batch.natoms), dtype=torch.bool, device=lost.device)
        exploded[batch.batch[lost]] = True
        atoms = exploded[batch.batch, None]
        finite = batch.clone()
        finite.pos = torch.where(atoms, self._start, batch.pos)
        out = self.trainer.predict(finite)
        return {
            "energy": out["energy"].masked_fill(exploded, torch.nan),
            "forces": out["forces"].masked_fill(atoms, torch.nan),
        }
