"""Evaluation shared by ranks: every structure once, and the numbers of a single rank."""

import logging
from collections import Counter
from itertools import chain
from pathlib import Path

import torch
from fairchem.core.common import distutils
from fairchem.core.trainers.ocp_trainer import OCPTrainer

from ocp_physmol.errors import UserError
from ocp_physmol.progress import chunks
from ocp_physmol.relaxation import dataset as relaxations
from ocp_physmol.relaxation.predictor import Predictor
from ocp_physmol.training.preemption import DeferredSignal


def evaluation_batches(size: int, batch_size: int) -> list[list[int]]:
    """This rank's share of a data set's batches: all ranks together see every entry once.

    They are the batches of a single rank, or smaller ones where there are fewer batches than ranks.
    (fairchem's sampler repeats entries until all ranks have as many.) Fewer entries than ranks are
    a UserError.
    """
    ranks, rank = distutils.get_world_size(), distutils.get_rank()
    if size < ranks:
        raise UserError(f"{size} structures cannot be shared by {ranks} ranks; use fewer ranks")
    return [*chunks(range(size), min(batch_size, size // ranks))][rank::ranks]


class SharedEvaluation(OCPTrainer):
    """An OCPTrainer that validates, predicts and relaxes the same on any number of ranks."""

    model: torch.nn.Module
    interruption: DeferredSignal | None = None  # during a training: the signal to stop

    def get_sampler(self, dataset, batch_size: int, shuffle: bool):
        if shuffle:
            return super().get_sampler(dataset, batch_size, shuffle)
        return evaluation_batches(len(dataset), batch_size)

    def _forward(self, batch):
        """As fairchem's, but without DistributedDataParallel in evaluation: there, ranks with
        different numbers of batches would wait for each other."""
        wrapped = self.model
        try:
            self.model = wrapped if wrapped.training else self._unwrapped_model
            return super()._forward(batch)
        finally:
            self.model = wrapped

    def run_relaxations(self) -> None:
        batch_size = self.config["optim"].get("eval_batch_size", 1)
        results = Path(self.config["cmd"]["results_dir"])
        predictor = Predictor(self, Path(self.checkpoint_path))
        relaxations.run(predictor, self.relax_dataset, self.config["task"], batch_size, results)

    def save_results(self, predictions, results_file, keys=None) -> None:
        gathered = distutils.gather_objects(list(predictions["ids"])) or []  # on the first rank
        counts = Counter(chain.from_iterable(gathered))
        repeated = [[name for name, count in counts.items() if count > 1][:1]]
        distutils.broadcast_object_list(repeated, src=0, device=self.device)
        for name in repeated[0]:
            problem = (
                f"the structures predicted share identifiers ('{name}' first): only one of each is "
                "kept; give every entry a sid (and fid) of its own"
            )
            if self.interruption is None:  # no training, which must go on
                raise UserError(problem)
            logging.warning(problem)
        super().save_results(predictions, results_file, keys)
