"""The batch of structures that fairchem's L-BFGS moves."""

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

    @property
    def largest_force(self) -> float:
        """eV/Angstrom, on any one atom."""
        return np.linalg.norm(self.forces, axis=1).max()


class MovedBatch(OptimizableBatch):
    """A batch of which only positions change.

    It differs from fairchem's in two ways. Forces are computed anew after every move: fairchem's
    ignores moves below 1e-5 of the coordinates, so forces stay, L-BFGS divides by their change,
    and positions become NaN. And a structure that explodes, that is, whose positions are no longer
    finite, does not end the relaxation of the others, although models refuse such a batch.

    Args:
        batch: structures at their starts, in float32.

    Attributes:
        frames: of each structure, from its start to where it is now.
    """

    def __init__(self, batch: Batch, predictor: Predictor) -> None:
        super().__init__(batch, trainer=predictor)  # which is asked for its device only
        self.frames: list[list[Frame]] = [[] for _ in range(len(batch))]
        self._start = self.batch.pos.clone()

    def set_positions(self, positions: torch.Tensor) -> None:
        """Move the structures that have not converged, to positions [N, 3]."""
        super().set_positions(positions)
        self.torch_results: dict[str, torch.Tensor] = {}

    def _predict(self) -> None:
        """Energies and forces after a move, NaN for those of structures that have exploded."""
        if self.torch_results:
            return
        batch = self.batch
        exploded = torch.zeros(len(batch.natoms), dtype=torch.bool, device=self.device)
        exploded[batch.batch[~torch.isfinite(batch.pos).all(dim=1)]] = True
        atoms = exploded[batch.batch, None]
        finite = batch.clone()
        finite.pos = torch.where(atoms, self._start, batch.pos)
        out = self.trainer.predict(finite)
        energy = out["energy"].masked_fill(exploded, torch.nan)
        forces = out["forces"].masked_fill(atoms, torch.nan)
        forces = forces.masked_fill(batch.fixed[:, None] == 1, 0)
        self.torch_results = {"energy": energy, "forces": forces}
        now = map(Frame, split(batch.pos, batch), energy.tolist(), split(forces, batch))
        for frames, frame, moved in zip(self.frames, now, self.update_mask):
            if not moved:
                frames.pop()  # predicted anew, together with structures that have moved
            frames.append(frame)
