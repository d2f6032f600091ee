"""What fairchem's batched L-BFGS moves."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from fairchem.core.common.relaxation.optimizable import OptimizableBatch


class MovedBatch(OptimizableBatch):
    """A batch whose forces are computed anew after every move; only its positions change.

    fairchem's takes moves below 1e-5 of the coordinates for none: forces stay, L-BFGS divides by
    their change, and positions become NaN.
    """

    def _predict(self) -> None:
        former = self._cached_batch
        if former is None or not torch.equal(former.pos, self.batch.pos):
            self.torch_results = self.trainer.predict(
                self.batch, per_image=False, disable_tqdm=True
            )
            self._cached_batch = SimpleNamespace(pos=self.batch.pos.clone())
