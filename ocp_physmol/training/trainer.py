"""Section 3.7: an OCPTrainer that trains with the physics terms beside fairchem's own losses."""

import copy
import importlib
import inspect
import logging
from pathlib import Path

import torch
from fairchem.core.common import distutils
from fairchem.core.common.registry import registry
from fairchem.core.modules.evaluator import Evaluator

from ocp_physmol.checkpoint import fits, read_checkpoint, require_same_architecture
from ocp_physmol.errors import UserError
from ocp_physmol.fairchem_compat.optimizers import find_optimizer
from ocp_physmol.files import move_into_place, room_explained
from ocp_physmol.losses.draws import structure_generators
from ocp_physmol.losses.term import MeanOverRanks, Term, active_entries
from ocp_physmol.model.copies import merged, renamed
from ocp_physmol.training.budgeted import BudgetedTraining
from ocp_physmol.training.former import of_today
from ocp_physmol.training.numerics import (
    CURE,
    optimizer_explained,
    require_finite_outputs,
    require_finite_weights,
)
from ocp_physmol.training.preemption import DeferredSignal, warning_signal
from ocp_physmol.training.references import subtract_untrained
from ocp_physmol.training.resolve import resolve
from ocp_physmol.training.start import start_from
from ocp_physmol.training.stored_prior import require_stored_prior


def import_path(cls: type) -> str:
    """How a checkpoint names a class: by its package where that exports it, so files may move."""
    package = importlib.import_module(cls.__module__.split(".")[0])
    exported = getattr(package, cls.__name__, None) is cls
    return f"{package.__name__ if exported else cls.__module__}.{cls.__name__}"


@registry.register_trainer("physmol")
class PhysMolTrainer(BudgetedTraining):
    """Takes OCPTrainer's configuration, and terms under `loss_functions` (see `losses.term`).

    A coefficient of 0 switches a term off, at no cost.

    Energies are kept in double precision outside the model: totals of 1e4 eV leave no room for meV.
    """

    output_targets: dict[str, dict]  # fairchem's, by name
    checkpoint_path: str | None = None  # that was loaded

    def __init__(self, **config) -> None:
        # Gaussians far from their centre are denormal floats, several times slower on a CPU
        torch.set_flush_denormal(True)
        super().__init__(**resolve(config))
        # a checkpoint must open in a process that has not imported this package
        self.config["trainer"] = import_path(type(self))
        self.config["model"]["name"] = import_path(type(self._unwrapped_model))

    # ---- what is computed: all outputs in evaluation, in training only what a loss needs

    def load_datasets(self) -> None:
        for split in ("dataset", "val_dataset", "test_dataset", "relax_dataset"):
            labelled = split in ("dataset", "val_dataset")
            if self.config[split]:
                self.config[split]["required"] = list(self.output_targets) if labelled else []
        super().load_datasets()

    def load_optimizer(self) -> None:
        find_optimizer(self.config["optim"].get("optimizer", "AdamW"))
        if name := self.config["optim"].get("start_from"):  # before its average begins
            normalizer = self.normalizers.get("energy")
            scale = 1.0 if normalizer is None else float(normalizer.rmsd)
            start_from(self._unwrapped_model, name, scale)
        super().load_optimizer()

    def load_loss(self) -> None:
        self.loss_functions: list[tuple[str, dict]] = []
        self.terms: dict[str, MeanOverRanks] = {}
        for name, options in active_entries(self.config["loss_functions"]).items():
            loss_class = registry.get_loss_class(options["fn"])
            is_term = issubclass(loss_class, Term)
            loss = loss_class(loss_class.Options(**options)) if is_term else loss_class()
            reduced = MeanOverRanks(loss, options.get("reduction"))
            if not is_term:
                entry = {"fn": reduced, "coefficient": options["coefficient"]}
                self.loss_functions.append((name, entry))
            elif self._suits_the_data(name, loss):
                self.terms[name] = reduced
        compared = {name for name, _ in self.loss_functions}
        compared.update(*(loss.loss_fn.outputs for loss in self.terms.values()))
        # DistributedDataParallel wants a gradient of all weights: of the classifier without masked
        # atoms, and of an energy's offset with forces alone, it is zero
        classifier = getattr(self._unwrapped_model, "classifier", None)
        masked = any(loss.loss_fn.model_options.get("use_masking") for loss in self.terms.values())
        reached = "energy" in compared and (classifier is None or masked)
        self.unreached = [] if reached else list(self.model.parameters())
        unused = {"forces"} - compared
        self.trained_targets = {k: v for k, v in self.output_targets.items() if k not in unused}
        metrics = self.evaluation_metrics.get("metrics", {})
        trained_metrics = {k: v for k, v in metrics.items() if k in self.trained_targets}
        self.evaluator = Evaluator(task=self.name, eval_metrics=trained_metrics)

    def _suits_the_data(self, name: str, term: Term) -> bool:
        """Whether a term applies to the training data; a UserError if it must and does not."""
        data, labels = self.train_dataset, set(self.output_targets)
        problem = None if data is None else term.problem(data[0], labels)
        if problem and not term.options.optional:
            raise UserError(f"loss_functions.{name} {problem}")
        if problem:
            logging.warning(f"loss_functions.{name} is left out: it {problem}")
        return problem is None

    # ---- one training step

    def _forward(self, batch):
        self._stop_if_asked()
        out = self._forward_training(batch) if self.model.training else super()._forward(batch)
        if "energy" in out:
            out["energy"] = out["energy"].double()
        return out

    def _forward_training(self, batch) -> dict:
        """Outputs of the batch, and under "terms" the prediction and target of each term."""
        model = self._unwrapped_model
        if "copies" not in inspect.signature(model.forward).parameters:
            if self.terms:
                raise UserError(
                    f"model.name {type(model).__name__} evaluates no copies of a batch, which "
                    f"loss_functions.{next(iter(self.terms))} needs; put it into a conservative one"
                )
            return {**super()._forward(batch), "terms": {}}
        batch = batch.to(self.device)
        seed = self.config["cmd"]["seed"] or 0
        terms = {name: loss.loss_fn for name, loss in self.terms.items()}
        with torch.autocast(self.device.type, enabled=False):  # labels have all digits
            wanted = {
                name: term.copy(batch, structure_generators(batch, seed, self.step, name))
                for name, term in terms.items()
            }
        copies = renamed({name: copy for name, copy in wanted.items() if copy is not None})
        asked = merged(copies.values())
        out = self.model(batch, outputs=tuple(self.trained_targets), copies=asked)
        physical = self._in_ev(out)
        rows = {"atom": len(batch.pos), "system": len(batch.natoms)}
        own = {n: out[n].view(rows[t["level"]], -1) for n, t in self.trained_targets.items()}
        compared = {n: term.compare(physical, batch, copies.get(n)) for n, term in terms.items()}
        return {**own, "terms": compared}

    def _in_ev(self, out: dict) -> dict:
        """Outputs in eV and eV/Angstrom, not in units of the normalizer's stdev; energies without
        their offsets, which are the same for all copies of a structure."""
        scale = {name: normalizer.rmsd for name, normalizer in self.normalizers.items()}
        scale.setdefault("forces", scale.get("energy", 1.0))

        def scaled(values: dict) -> dict:
            return {
                name: scaled(value) if isinstance(value, dict) else value * scale.get(name, 1.0)
                for name, value in values.items()
            }

        return scaled(out)

    def _compute_loss(self, out, batch) -> torch.Tensor:
        if self.model.training:
            own = {name: out[name] for name in self.trained_targets}
            require_finite_outputs(own, batch, self.step)
        loss = super()._compute_loss(out, batch)
        for name, (prediction, target) in out.get("terms", {}).items():
            term = self.terms[name]
            coefficient = term.loss_fn.options.coefficient
            loss = loss + coefficient * term(prediction, target, batch.natoms)
        if self.model.training:
            loss = loss + sum(0 * parameter.sum() for parameter in self.unreached)
            if not torch.isfinite(loss):
                raise UserError(f"step {self.step}: the loss is {float(loss)}; {CURE}")
        return loss

    def _compute_metrics(self, out, batch, evaluator, metrics=None):
        batch = copy.copy(batch)  # fairchem counts free atoms structure by structure: not on a GPU
        batch.natoms, batch.fixed = batch.natoms.cpu(), batch.fixed.cpu()
        if not self.model.training:
            return super()._compute_metrics(out, batch, evaluator, metrics)
        own = {name: value for name, value in out.items() if name != "terms"}
        every, self.output_targets = self.output_targets, self.trained_targets
        metrics = super()._compute_metrics(own, batch, evaluator, metrics)
        self.output_targets = every
        losses = {name: info["fn"] for name, info in self.loss_functions}
        for name, loss in {**losses, **self.terms}.items():
            metrics = evaluator.update(f"{name}_loss", float(loss.value), metrics)
        return metrics

    # ---- checkpoints

    def train(self, disable_eval_tqdm: bool = False) -> None:
        require_stored_prior(self)
        try:
            with DeferredSignal(warning_signal()) as self.interruption:
                if self.checkpoint_path is None:
                    subtract_untrained(self, super()._forward)
                with optimizer_explained(lambda: self.step):
                    super().train(disable_eval_tqdm)
        finally:
            self.interruption = None

    def save_if_training(self) -> None:
        """Save when the job is to end. Without a running training there is nothing to save, and
        weights that are not loaded yet would overwrite a checkpoint."""
        if self.interruption is not None:
            self.save()

    def _stop_if_asked(self) -> None:
        """Obey a warning that the job is to end, before a forward pass: there the weights, their
        average and the optimiser belong together, to the last step that is complete."""
        if self.interruption and self.interruption.received and distutils.is_master():
            if self.model.training:
                self.step -= 1
            elif self.ema is not None:
                self.ema.restore()  # a validation has put the average in the weights' place
            self.interruption.deliver()

    def save(self, metrics=None, checkpoint_file="checkpoint.pt", training_state=True):
        require_finite_weights(self.model, self.step)
        path = Path(self.config["cmd"]["checkpoint_dir"], checkpoint_file)
        weights = sum(p.numel() * p.element_size() for p in self.model.parameters())
        with room_explained(path, weights):
            partial = super().save(metrics, f".{checkpoint_file}.partial", training_state)
        return partial and move_into_place(partial, checkpoint_file)

    def save_results(self, predictions, results_file, keys=None) -> None:
        partial = results_file and f"{results_file}.partial"
        super().save_results(predictions, partial, keys)
        if results_file and distutils.is_master():
            folder, name = self.config["cmd"]["results_dir"], f"{self.name}_{results_file}.npz"
            move_into_place(Path(folder, f"{self.name}_{partial}.npz"), name)
            logging.info(f"The results are complete, and named {Path(folder, name)}")

    def load_checkpoint(self, checkpoint_path, checkpoint=None, inference_only=False) -> None:
        if checkpoint is None:
            checkpoint = read_checkpoint(checkpoint_path, self.device)
        checkpoint = of_today(checkpoint)
        self.checkpoint_path = checkpoint_path
        require_same_architecture(self.model, self.config["model"], checkpoint, checkpoint_path)
        with fits(checkpoint_path):
            super().load_checkpoint(checkpoint_path, checkpoint, inference_only)
        if distutils.is_master():
            logging.info(f"Loaded {checkpoint_path}, step {self.step}.")
