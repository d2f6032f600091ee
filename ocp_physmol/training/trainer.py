"""Section 3.7: an OCPTrainer that trains with the physics losses beside fairchem's own."""

from __future__ import annotations

import contextlib
import logging

import torch
from fairchem.core.common import distutils
from fairchem.core.common.registry import registry
from fairchem.core.modules.evaluator import Evaluator
from fairchem.core.modules.exponential_moving_average import ExponentialMovingAverage
from torch.nn import functional as F

from ocp_physmol.checkpoint import read_checkpoint, require_same_architecture
from ocp_physmol.errors import UserError
from ocp_physmol.files import move_into_place
from ocp_physmol.losses import copies
from ocp_physmol.losses.functions import PHYSICS_TERMS, LossTerm, active_terms
from ocp_physmol.losses.pushes import Push, require_molecule
from ocp_physmol.model.elements import NUM_TYPES
from ocp_physmol.training.budget import BudgetScheduler, BudgetSpent, TimeBudget
from ocp_physmol.training.preemption import DeferredSignal, warning_signal
from ocp_physmol.training.sharded_evaluation import SharedEvaluation


def import_path(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


@registry.register_trainer("physmol")
class PhysMolTrainer(SharedEvaluation):
    """Takes OCPTrainer's configuration, and in addition:

    Four names in `loss_functions` that are no outputs of the model but terms of Eq. 10:
        masked_atoms: {fn, coefficient, mask_ratio}, Masked Atomic Modeling (Eq. 7);
        zero_force: {fn, coefficient}, on structures at equilibrium (Eq. 8);
        bound: {fn, coefficient, noise}, displaced copies of those, noise in Angstrom (Eq. 9);
        restoring_force: {fn, coefficient, noise}, how hard these are pulled back; of molecules.
    A coefficient of 0 switches a term off, at no cost.

    `optim.max_seconds`: stop after this many seconds of training steps, with a learning rate that
    falls by the time used; `max_epochs` is then an upper limit.

    Energies are kept in double precision outside the model: totals of 1e4 eV leave no room for meV.
    """

    def __init__(self, **config) -> None:
        # Gaussians far from their centre are denormal floats, several times slower on a CPU
        torch.set_flush_denormal(True)
        super().__init__(**config)
        # a checkpoint must open in a process that has not imported this package
        self.config["trainer"] = import_path(type(self))
        self.config["model"]["name"] = import_path(type(self._unwrapped_model))

    # ---- what is computed: all outputs in evaluation, in training only what a loss needs

    @property
    def output_targets(self) -> dict:
        training = hasattr(self, "physics_terms") and self.model.training
        return self._trained_targets if training else self._all_targets

    @output_targets.setter
    def output_targets(self, targets: dict) -> None:
        self._all_targets = targets

    def load_model(self) -> None:
        if "masked_atoms" in active_terms(self.config["loss_functions"]):
            self.config["model"]["use_masking"] = True  # only then: DDP wants no idle parameters
        super().load_model()

    def load_datasets(self) -> None:
        for split in ("dataset", "val_dataset", "test_dataset", "relax_dataset"):
            labelled = split in ("dataset", "val_dataset")
            if self.config[split]:
                self.config[split]["required"] = list(self._all_targets) if labelled else []
        super().load_datasets()

    def load_loss(self) -> None:
        terms = {
            name: (LossTerm(options["fn"], options.get("reduction")), options)
            for name, options in active_terms(self.config["loss_functions"]).items()
        }
        self.loss_functions = [
            (name, {"fn": term, "coefficient": options["coefficient"]})
            for name, (term, options) in terms.items()
            if name not in PHYSICS_TERMS
        ]
        self._trained_targets = {
            name: target
            for name, target in self._all_targets.items()
            if name != "forces" or terms.keys() & {"forces", "zero_force"}
        }
        metrics = self.evaluation_metrics.get("metrics", {})
        self.evaluator = Evaluator(
            task=self.name,
            eval_metrics={k: v for k, v in metrics.items() if k in self._trained_targets},
        )
        self.physics_terms = {k: v for k, v in terms.items() if k in PHYSICS_TERMS}
        self._require_minima()

    def _require_minima(self) -> None:
        """Switch zero_force and bound off where nothing in the training data says what is a
        minimum: neither IS2RE's `pos_relaxed` nor forces."""
        data = self.train_dataset
        self.knows_relaxed = data is not None and "pos_relaxed" in data[0]
        if self.knows_relaxed and hasattr(data.dataset, "required"):
            # a batch has it for all of its structures or for none
            data.dataset.required = [*data.dataset.required, "pos_relaxed"]
        if "restoring_force" in self.physics_terms and data is not None:
            require_molecule(data[0])
        minima = sorted(self.physics_terms.keys() & {"zero_force", "bound"})
        if minima and self.knows_relaxed and not self._takes_copies("equilibrium"):
            raise UserError(
                f"loss_functions.{minima[0]} at relaxed positions needs a model that evaluates "
                "these too; only physmol does, so leave it out"
            )
        if self.knows_relaxed or "forces" in self._all_targets:
            return
        for name in self.physics_terms.keys() & {"zero_force", "bound", "restoring_force"}:
            del self.physics_terms[name]
            logging.warning(f"No pos_relaxed and no forces in the training data: {name} is off.")

    def _takes_copies(self, kind: str) -> bool:
        return kind in getattr(self._unwrapped_model, "copies", ())

    # ---- one training step

    def _forward(self, batch):
        self._stop_if_asked()
        self._unwrapped_model.regress_forces = "forces" in self.output_targets
        if not self.model.training:
            out = super()._forward(batch)
        else:
            batch = batch.to(self.device)
            self._add_copies(batch)
            out = self.model(batch)
            for name, target in self.output_targets.items():
                rows = len(batch.pos) if target["level"] == "atom" else len(batch.natoms)
                out[name] = out[name].view(rows, -1)
        if "energy" in out:
            out["energy"] = out["energy"].double()
        return out

    def _add_copies(self, batch) -> None:
        """Give the batch the copies that the active losses compare; the model evaluates them."""
        where = (self.config["cmd"]["seed"] or 0, self.step)
        if self.knows_relaxed and self.physics_terms.keys() & {"zero_force", "bound"}:
            batch.pos_equilibrium = batch.pos_relaxed
        else:
            for name in self.physics_terms.keys() & {"bound", "restoring_force"}:  # one at most
                self._displace(name, batch, copies.structure_generators(batch, *where, name))
        if "masked_atoms" in self.physics_terms:
            generators = copies.structure_generators(batch, *where, "masked_atoms")
            ratio = self.physics_terms["masked_atoms"][1]["mask_ratio"]
            batch.masked = copies.masked_atoms(batch, ratio, generators)

    def _displace(self, name: str, batch, generators) -> None:
        noise = self.physics_terms[name][1]["noise"]
        batch.displaced = copies.at_equilibrium(batch)
        if name == "bound":
            batch.pos_displaced = copies.displaced_positions(batch, noise, generators)
        else:
            batch.push = Push(batch, noise, generators)
            batch.pos_displaced, batch.displaced_forces = batch.push.pos, True

    def _compute_loss(self, out, batch) -> torch.Tensor:
        loss = super()._compute_loss(out, batch)
        if self.model.training:
            for name, (term, options) in self.physics_terms.items():
                prediction, target = getattr(self, f"_{name}")(out, batch)
                loss = loss + options["coefficient"] * term(prediction, target, batch.natoms)
            if not torch.isfinite(loss):
                raise UserError(
                    f"the loss is {float(loss)} at step {self.step}; lower optim.lr_initial or set "
                    "optim.clip_grad_norm, and resume from the last checkpoint"
                )
        return loss

    def _masked_atoms(self, out, batch):
        numbers = batch.atomic_numbers[batch.masked].long()
        logits = out["masked_logits"][batch.masked]
        return logits, F.one_hot(numbers, NUM_TYPES).to(logits.dtype)

    def _zero_force(self, out, batch):
        free = batch.fixed == 0
        if self.knows_relaxed:
            forces = out["forces_equilibrium"][free]
        else:
            forces = out["forces"][copies.at_equilibrium(batch)[batch.batch] & free]
        return forces, torch.zeros_like(forces)

    def _bound(self, out, batch):
        """Energies at equilibrium, and displaced from it: IS2RE's initial structures are."""
        energy = out["energy"][:, 0]
        if self.knows_relaxed:
            return out["energy_equilibrium"].to(energy.dtype), energy
        return energy[batch.displaced], out["energy_displaced"].to(energy.dtype)

    def _restoring_force(self, out, batch):
        return batch.push.weighed(out["forces_displaced"]), batch.push.target

    def _compute_metrics(self, out, batch, evaluator, metrics=None):
        metrics = super()._compute_metrics(out, batch, evaluator, metrics)
        if self.model.training:
            terms = {name: info["fn"] for name, info in self.loss_functions}
            terms.update((name, term) for name, (term, _) in self.physics_terms.items())
            for name, term in terms.items():
                metrics = evaluator.update(f"{name}_loss", float(term.value), metrics)
        return metrics

    # ---- training for a given time

    def load_extras(self) -> None:
        optim = self.config["optim"]
        self.budgeted = optim.get("max_seconds") is not None
        if self.budgeted:
            optim["scheduler"] = "Null"  # what fairchem does by steps is done by time
        super().load_extras()
        if self.budgeted:
            budget = TimeBudget(optim["max_seconds"])
            self.scheduler = BudgetScheduler(self.optimizer, budget, self.device)

    def train(self, disable_eval_tqdm: bool = False) -> None:
        try:
            with DeferredSignal(warning_signal()) as self.interruption:
                self._train(disable_eval_tqdm)
        finally:
            self.interruption = None

    def _train(self, disable_eval_tqdm: bool) -> None:
        if self.ema is None and self.ema_decay:  # a checkpoint of the best weights holds no average
            self.ema = ExponentialMovingAverage(self.model.parameters(), self.ema_decay)
        if self.budgeted:
            self.scheduler.start()
        with contextlib.suppress(BudgetSpent):
            if not (self.budgeted and self.scheduler.budget.spent):
                super().train(disable_eval_tqdm)
        if self.budgeted:
            used = self.scheduler.budget.used
            logging.info(f"Trained for {used:.0f} seconds, {self.step} steps.")
        # the end may lie between two validations
        self.save(checkpoint_file="checkpoint.pt", training_state=True)
        between = self.step % self.config["optim"].get("eval_every", len(self.train_loader)) != 0
        if self.val_loader is not None and between:
            metrics = self.validate(split="val", disable_tqdm=disable_eval_tqdm)
            metric = self.evaluation_metrics["primary_metric"]
            self.update_best(metric, metrics, disable_eval_tqdm)

    def validate(self, *args, **kwargs):
        with self._off_the_clock():
            return super().validate(*args, **kwargs)

    def update_best(self, *args, **kwargs) -> None:
        best = self.best_val_metric
        with self._off_the_clock():
            super().update_best(*args, **kwargs)
            if self.best_val_metric != best:  # else a run that resumes forgets how good it was
                self.save()

    def _off_the_clock(self):
        return self.scheduler.paused() if self.budgeted else contextlib.nullcontext()

    # ---- checkpoints

    def save_if_training(self) -> None:
        """What to do when the job is to end; before and after the training, and while weights are
        still being loaded, there is nothing to save, and much to overwrite."""
        if self.interruption is not None:
            self.save()

    def _stop_if_asked(self) -> None:
        """Obey a warning that the job is to end, before a forward pass: then the weights, their
        average and the optimiser belong together, to the last step that is complete."""
        if self.interruption is None or not self.interruption.received:
            return
        if distutils.is_master():
            if self.model.training:
                self.step -= 1
            elif self.ema is not None:
                self.ema.restore()  # a validation has put the average in the weights' place
            self.interruption.deliver()

    def save(self, metrics=None, checkpoint_file="checkpoint.pt", training_state=True):
        partial = super().save(metrics, f".{checkpoint_file}.partial", training_state)
        return partial and move_into_place(partial, checkpoint_file)

    def load_checkpoint(self, checkpoint_path, checkpoint=None, inference_only=False) -> None:
        if checkpoint is None:
            checkpoint = read_checkpoint(checkpoint_path, self.device)
        self.checkpoint_path = checkpoint_path
        options = self.config["model"]
        require_same_architecture(self.model, options, checkpoint, checkpoint_path)
        super().load_checkpoint(checkpoint_path, checkpoint, inference_only)
        if distutils.is_master():
            logging.info(f"Loaded {checkpoint_path}, step {self.step}.")
