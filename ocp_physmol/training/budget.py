"""Training for a given budget: the learning rate falls with the share of it that is used."""

import math
import time
from collections.abc import Callable
from contextlib import contextmanager

import torch
from fairchem.core.common import distutils
from fairchem.core.modules.scheduler import LRScheduler

WARMUP = 0.02  # share of the budget in which the learning rate rises linearly
FINAL = 0.01  # share of the learning rate that is left at the end


def follows_budget(optim: dict) -> bool:
    """Whether the learning rate of a section `optim` follows the budget, not a named scheduler."""
    if optim.get("max_seconds") is not None or optim.get("max_steps") is not None:
        return True
    # fairchem warms up and then steps down at milestones where no scheduler is named
    return optim.get("scheduler") is None and "lr_milestones" not in optim


class BudgetSpent(Exception):
    """Raised after the step that used up the budget; the trainer ends the run in good order."""


class Budget:
    """Multiplier of the learning rate after a share of the budget: warm-up, then a half cosine.

    The budget is a number of `seconds`, of `steps`, or both; then it ends with the first of them.
    As the `lr_lambda` of a LambdaLR it is saved and restored with the scheduler, so a resumed run
    has the seconds that were left.
    """

    def __init__(self, seconds: float | None, steps: int | None) -> None:
        self.seconds, self.steps, self.used = seconds, steps, 0.0
        self.judged = 0  # the last mark whose validation is done

    def share(self, step: int) -> float:
        """The share of the budget that is used after so many steps, at most 1."""
        of_time = self.used / self.seconds if self.seconds else 0.0
        return min(max(of_time, step / self.steps if self.steps else 0.0), 1.0)

    def __call__(self, step: int) -> float:
        share = self.share(step)
        if share < WARMUP:
            return max(share / WARMUP, 0.01)
        progress = (share - WARMUP) / (1 - WARMUP)
        return FINAL + (1 - FINAL) * 0.5 * (1 + math.cos(math.pi * progress))


class BudgetScheduler(LRScheduler):
    """A scheduler that looks at the clock and at the steps.

    `paused` keeps validation out of the count. `at_mark` is called, off the clock, after the steps
    that pass (k / marks)^2 of the budget, for k from 1 to `marks` - 1. A model that learns too much
    of few data is at its best early, where marks are close together.
    """

    def __init__(
        self, optimizer, budget: Budget, device: torch.device, marks: int | None = None
    ) -> None:
        self.budget, self.device, self.marks = budget, device, marks or 1
        self.at_mark: Callable[[], None] = lambda: None
        super().__init__(optimizer, {"scheduler": "LambdaLR", "lr_lambda": budget})
        self._since = time.perf_counter()

    def start(self) -> None:
        """Count from now on; raises BudgetSpent if nothing of the budget is left."""
        self._since = time.perf_counter()
        if self._share() >= 1:
            raise BudgetSpent

    def _share(self) -> float:
        return self.budget.share(self.scheduler.last_epoch)

    @contextmanager
    def paused(self):
        paused_at = time.perf_counter()
        yield
        self._since += time.perf_counter() - paused_at

    def step(self, metrics=None, epoch=None) -> None:
        """Count the time since the last step. All ranks agree on it, so they stop together."""
        before = self._share()
        seconds = time.perf_counter() - self._since
        self.budget.used += distutils.all_reduce(seconds, average=True, device=self.device)
        super().step()
        if self._mark(before) < self._mark(self._share()) < self.marks:
            self.at_mark()
        self.start()

    def is_at_mark(self) -> bool:
        """Whether the validation of a mark was broken off."""
        return self.budget.judged < self._mark(self._share()) < self.marks

    def pass_mark(self) -> None:
        self.budget.judged = self._mark(self._share())

    def _mark(self, share: float) -> int:
        """The number of the last mark that is reached with a share of the budget."""
        return int(self.marks * math.sqrt(share))

    def resume(self, budget: Budget, step: int, learning_rate: float) -> None:
        """Go on after `step` with the seconds that a checkpoint has used, but with this budget.

        A checkpoint is written between a step and the scheduler's; the learning rate is that of
        the next step also then.
        """
        self.budget.seconds, self.budget.steps = budget.seconds, budget.steps
        self.scheduler.last_epoch = step
        self.scheduler.base_lrs = [learning_rate for _ in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate * self.budget(step)
