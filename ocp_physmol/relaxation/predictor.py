"""A trained model, opened for evaluation, and the batches to evaluate it on."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from fairchem.core import OCPCalculator
from fairchem.core.datasets import data_list_collater

from ocp_physmol.checkpoint import read_checkpoint
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ocp_physmol.training.trainer import PhysMolTrainer


@contextmanager
def quiet():
    """fairchem logs every configuration and every step of a relaxation; not here."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="fairchem")
            yield
    finally:
        logging.disable(logging.NOTSET)


def load_predictor(checkpoint: Path, cpu: bool = True) -> PhysMolTrainer:
    """The trainer of a checkpoint, whose `predict` gives energies (eV) and forces (eV/Angstrom).

    Raises:
        UserError: if the checkpoint is missing or damaged.
    """
    read_checkpoint(str(checkpoint))
    with quiet():
        return OCPCalculator(checkpoint_path=str(checkpoint), cpu=cpu).trainer


def open_labelled(src: Path) -> PhysMolLmdbDataset:
    """Structures with `energy` and `forces` from an LMDB with OCP's keys."""
    mapping = {"y": "energy", "force": "forces"}
    return PhysMolLmdbDataset(
        {"src": str(src), "key_mapping": mapping, "required": list(mapping.values())}
    )


def batches(structures: Sequence, batch_size: int) -> Iterator:
    """fairchem batches of the structures, in their order."""
    for first in range(0, len(structures), batch_size):
        chosen = range(first, min(first + batch_size, len(structures)))
        yield data_list_collater([structures[i] for i in chosen], otf_graph=True)
