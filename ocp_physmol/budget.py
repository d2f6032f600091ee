"""Training for a given time: the learning rate falls with the time used, not with the steps."""

from __future__ import annotations

import math
import time

import torch
from fairchem.core.common import distutils


class BudgetSpent(Exception):
    """Raised after the step that used up the budget; the trainer ends the run in good order."""


class TimeBudget:
    """Multiplier of the learning rate after a share of the budget: warm-up, then a half cosine.

    Counts the seconds between training steps; start-up and validation are free. As the `lr_lambda`
    of a LambdaLR it is saved and restored with the scheduler, so a resumed run has what was left.

    Args:
        seconds: the budget.
        warmup: share of it in which the rate rises linearly.
        final: multiplier at the end.
    """

    def __init__(self, seconds: float, warmup: float = 0.02, final: float = 0.01) -> None:
        self.seconds = seconds
        self.warmup = warmup
        self.final = final
        self.used = 0.0

    def resume(self) -> None:
        """Start the clock, or start it again after time that does not count."""
        self._last = time.perf_counter()

    def end_step(self, device: torch.device) -> None:
        """Count the time since the last step; all ranks agree on it, so that they stop together.

        Raises:
            BudgetSpent: if nothing is left.
        """
        now = time.perf_counter()
        spent = torch.tensor(now - self._last, device=device)
        self.used += float(distutils.all_reduce(spent, average=True))
        self._last = now
        if self.used >= self.seconds:
            raise BudgetSpent

    @property
    def share(self) -> float:
        return min(self.used / self.seconds, 1.0)

    def __call__(self, step: int) -> float:
        if self.share < self.warmup:
            return max(self.share / self.warmup, 0.01)
        progress = (self.share - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))
