"""Training for a given time: the learning rate falls with the time used, not with the steps."""

import math
import time
from contextlib import contextmanager

import torch
from fairchem.core.common import distutils
from fairchem.core.modules.scheduler import LRScheduler

WARMUP = 0.02  # share of the budget in which the learning rate rises linearly
FINAL = 0.01  # share of the learning rate that is left at the end


class BudgetSpent(Exception):
    """Raised after the step that used up the budget; the trainer ends the run in good order."""


class TimeBudget:
    """Multiplier of the learning rate after a share of `seconds`: warm-up, then a half cosine.

    As the `lr_lambda` of a LambdaLR it is saved and restored with the scheduler, so a resumed run
    has the seconds that were left.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds, self.used = seconds, 0.0

    def __call__(self, step: int) -> float:
        share = min(self.used / self.seconds, 1.0)
        if share < WARMUP:
            return max(share / WARMUP, 0.01)
        progress = (share - WARMUP) / (1 - WARMUP)
        return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * progress))


class BudgetScheduler(LRScheduler):
    """A scheduler that looks at the clock; `paused` keeps validation out of the count."""

    def __init__(self, optimizer, seconds: float, device: torch.device) -> None:
        self.budget, self.device = TimeBudget(seconds), device
        super().__init__(optimizer, {"scheduler": "LambdaLR", "lr_lambda": self.budget})
        self.start()

    def start(self) -> None:
        """Count from now on; raises BudgetSpent if no time is left."""
        self._since = time.perf_counter()
        if self.budget.used >= self.budget.seconds:
            raise BudgetSpent

    @contextmanager
    def paused(self):
        paused_at = time.perf_counter()
        yield
        self._since += time.perf_counter() - paused_at

    def step(self, metrics=None, epoch=None) -> None:
        """Count the time since the last step. All ranks agree on it, so they stop together."""
        seconds = time.perf_counter() - self._since
        self.budget.used += distutils.all_reduce(seconds, average=True, device=self.device)
        super().step()
        self.start()
