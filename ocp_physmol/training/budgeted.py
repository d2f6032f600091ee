"""An OCPTrainer that trains for a budget and keeps the best average of its weights."""

import contextlib
import logging
import math
from functools import partial

from fairchem.core.modules.exponential_moving_average import ExponentialMovingAverage

from ocp_physmol.training.budget import Budget, BudgetScheduler, BudgetSpent, follows_budget
from ocp_physmol.training.numerics import require_finite_metrics
from ocp_physmol.training.sharded_evaluation import SharedEvaluation


class BudgetedTraining(SharedEvaluation):
    """Ends after `optim.max_seconds`, `max_steps` or `max_epochs`, whichever comes first.

    With one of the first two, or where `optim` names no scheduler, the learning rate falls with the
    share of the budget that is used. `optim.evaluations` is the number n of validations, after
    (k / n)^2 of the budget; without it there is one every `eval_every` steps, or every epoch.

    The average of the weights warms up: its decay after n steps is at most (1 + n) / (10 + n), so
    that also a short training forgets the weights that it began with.
    """

    ema: ExponentialMovingAverage | None
    budgeted = False  # where nothing is trained
    unfinished = False  # the step of the checkpoint that was loaded

    def load_extras(self) -> None:
        optim = self.config["optim"]
        self.budgeted = follows_budget(optim)
        if self.budgeted:  # fairchem's schedulers count steps, not time
            self.config["optim"] = {**optim, "scheduler": "Null"}
        super().load_extras()
        self.config["optim"] = optim
        if self.budgeted:
            marks = optim.get("evaluations")
            self.scheduler = BudgetScheduler(self.optimizer, self._budget(), self.device, marks)
            if marks:
                optim["eval_every"] = math.inf  # fairchem's loop leaves validation to us
        if self.ema is not None:
            self.ema = self._new_average()

    def _new_average(self) -> ExponentialMovingAverage:
        parameters = self.model.parameters()
        return ExponentialMovingAverage(parameters, self.ema_decay, use_num_updates=True)

    def _budget(self) -> Budget:
        """The budget of the config, as seconds and as steps."""
        optim, limits = self.config["optim"], []
        if optim.get("max_steps") is not None:
            limits.append(optim["max_steps"])
        if self.train_loader is not None:
            limits.append(optim["max_epochs"] * len(self.train_loader))
        return Budget(optim.get("max_seconds"), min(limits, default=None))

    def train(self, disable_eval_tqdm: bool = False) -> None:
        if self.ema is None and self.ema_decay:  # a checkpoint of the best weights holds no average
            self.ema = self._new_average()
        with contextlib.suppress(BudgetSpent):
            if self.budgeted:
                self.scheduler.at_mark = partial(self._judge_and_save, disable_eval_tqdm)
                self.scheduler.start()
            self._complete_step(disable_eval_tqdm)
            super().train(disable_eval_tqdm)
        if self.budgeted:
            used = self.scheduler.budget.used
            logging.info(f"Trained for {used:.0f} seconds, {self.step} steps.")
        # the end may lie between two validations
        self.save(checkpoint_file="checkpoint.pt", training_state=True)
        if not self._is_validated():
            self._judge(disable_eval_tqdm)

    def _complete_step(self, disable_eval_tqdm: bool) -> None:
        """Make up for what comes after the step in which a checkpoint was written: its validation,
        and the scheduler's step. fairchem would go on with the next one."""
        if not self.unfinished:
            return
        self.unfinished, primary = False, self.evaluation_metrics["primary_metric"]
        metrics = self._judge(disable_eval_tqdm) if self._is_validated() else None
        if not self.budgeted:
            self.scheduler.step(metrics=metrics and metrics[primary]["metric"])
        elif self.scheduler.is_at_mark():
            self._judge_and_save(disable_eval_tqdm)

    def _is_validated(self) -> bool:
        return self.step % self.config["optim"].get("eval_every", len(self.train_loader)) == 0

    def _judge(self, disable_eval_tqdm: bool) -> dict | None:
        """Validate, and keep the averaged weights if they are the best so far."""
        if self.val_loader is None:
            return None
        metrics = self.validate(split="val", disable_tqdm=disable_eval_tqdm)
        self.update_best(self.evaluation_metrics["primary_metric"], metrics, disable_eval_tqdm)
        return metrics

    def _judge_and_save(self, disable_eval_tqdm: bool) -> None:
        self._judge(disable_eval_tqdm)
        self.scheduler.pass_mark()
        self.save(checkpoint_file="checkpoint.pt", training_state=True)

    def validate(self, *args, **kwargs):
        with self._off_the_clock():
            metrics = super().validate(*args, **kwargs)
        require_finite_metrics(metrics or {}, self.step)
        return metrics

    def update_best(self, *args, **kwargs) -> None:
        best = self.best_val_metric
        with self._off_the_clock():
            super().update_best(*args, **kwargs)
            if self.best_val_metric != best:  # else a run that resumes forgets how good it was
                self.save()

    def _off_the_clock(self):
        return self.scheduler.paused() if self.budgeted else contextlib.nullcontext()

    def load_checkpoint(self, checkpoint_path, checkpoint, inference_only=False) -> None:
        schedule = checkpoint.get("scheduler") or {}
        used = (schedule.get("lr_lambdas") or [None])[0]
        differs = (used is not None) != self.budgeted
        if differs:  # then one schedule says nothing about the other
            checkpoint = {**checkpoint, "scheduler": None}
        super().load_checkpoint(checkpoint_path, checkpoint, inference_only)
        if inference_only:
            return
        learning_rate = self.config["optim"]["lr_initial"]
        if schedule and not differs:
            plateau = self.scheduler.scheduler_type == "ReduceLROnPlateau"
            expected = self.step
            if plateau:  # it counts validations
                expected //= self.config["optim"].get("eval_every", len(self.train_loader))
                expected *= self._is_validated()
            self.unfinished = schedule["last_epoch"] < expected
        if self.budgeted:
            self.unfinished |= self.scheduler.is_at_mark()
            self.scheduler.resume(self._budget(), self.step, learning_rate)
        elif differs:  # the optimizer's rate is what a budget has left of it
            for group in self.optimizer.param_groups:
                group["lr"] = group["initial_lr"] = learning_rate
