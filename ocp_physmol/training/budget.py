"""Training for a given time: the learning rate falls with the time used, not with the steps."""

import math
import time
from contextlib import contextmanager

import torch
from fairchem.core.common import distutils
from fairchem.core.modules.scheduler import LRScheduler


class BudgetSpent(Exception):
    """Raised after the step that used up the budget; the trainer ends the run in good order."""


class TimeBudget:
    """Multiplier of the learning rate after a share of the budget: warm-up, then a half cosine.

    As the `lr_lambda` of a LambdaLR it is saved and restored with the scheduler, so a resumed run
    has what was left.

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

    @property
    def spent(self) -> bool:
        return self.used >= self.seconds

    def __call__(self, step: int) -> float:
        share = min(self.used / self.seconds, 1.0)
        if share < self.warmup:
            return max(share / self.warmup, 0.01)
        progress = (share - self.warmup) / (1 - self.warmup)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * progress))


class BudgetScheduler(LRScheduler):
    """A scheduler that looks at the clock; `paused` keeps validation out of the count."""

    def __init__(self, optimizer, budget: TimeBudget, device: torch.device) -> None:
        super().__init__(optimizer, {"scheduler": "LambdaLR", "lr_lambda": budget})
        self.budget = budget
        self.device = device
        self.start()

    def start(self) -> None:
        self._since, self._pending = time.perf_counter(), 0.0

    @contextmanager
    def paused(self):
        self._pending += time.perf_counter() - self._since
        yield
        self._since = time.perf_counter()

    def step(self, metrics=None, epoch=None) -> None:
        """Count the time since the last step; all ranks agree on it, so that they stop together.

        Raises:
            BudgetSpent: if nothing is left.
        """
        seconds = self._pending + time.perf_counter() - self._since
        spent = torch.tensor(seconds, device=self.device)
        self.budget.used += float(distutils.all_reduce(spent, average=True))
        self.start()
        super().step()
        if self.budget.spent:
            raise BudgetSpent
