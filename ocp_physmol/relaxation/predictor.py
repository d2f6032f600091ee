"""A trained model, opened for evaluation, and the data to evaluate it on."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from fairchem.core.common.registry import registry
from fairchem.core.common.utils import setup_imports, update_config
from fairchem.core.datasets import data_list_collater
from fairchem.core.modules.exponential_moving_average import ExponentialMovingAverage
from fairchem.core.trainers.base_trainer import BaseTrainer
from torch_geometric.data import Batch, Data

import ocp_physmol
from ocp_physmol.checkpoint import Trained, fits, read_checkpoint
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError
from ocp_physmol.fairchem_compat.warnings_filter import without_fairchems_warnings
from ocp_physmol.progress import chunks
from ocp_physmol.validation import validate


class Predictor:
    """A model of fairchem in a `trainer`, with its normalizers and its element references."""

    refused: Mapping[int | str, str] = MappingProxyType({})  # why, by sid: they have no energy

    def __init__(self, trainer: BaseTrainer, path: Path) -> None:
        self.trainer, self.path, self.device = trainer, path, trainer.device

    @classmethod
    def open(cls, checkpoint: Path, cpu: bool = True) -> "Predictor":
        """The model of a checkpoint, on the CPU or on the first GPU.

        A missing or damaged checkpoint is a UserError. (fairchem's OCPCalculator unpickles any
        object, and changes logging and random numbers.)
        """
        content = read_checkpoint(checkpoint)
        with without_fairchems_warnings():
            setup_imports()  # registers fairchem's models and trainers
            ocp_physmol.register()
        # the first weights are drawn, then replaced
        with fits(checkpoint), torch.random.fork_rng(devices=[]):
            config = copy.deepcopy(content["config"])
            if "model_attributes" in config:  # in old checkpoints
                config["model"] = {**config["model_attributes"], "name": config["model"]}
            config = update_config(config)
            validate(Trained, config, "config")
            trainer = registry.get_trainer_class(config.get("trainer", "ocp"))(
                task=config.get("task") or {},
                model={**config["model"], "otf_graph": True},
                outputs=config["outputs"],
                dataset=[config.get("dataset")],
                optimizer=config["optim"],
                loss_functions=config["loss_functions"],
                evaluation_metrics=config["evaluation_metrics"],
                identifier="",
                local_rank=0,
                is_debug=True,  # writes no folders
                cpu=cpu,
                inference_only=True,
            )
            trainer.load_checkpoint(str(checkpoint), content, inference_only=True)
            if content.get("ema"):  # of a training, which predicts with the average of its weights
                average = ExponentialMovingAverage(trainer.model.parameters(), decay=0.0)
                average.load_state_dict(content["ema"])
                average.copy_to()
        trainer.model.eval()
        return cls(trainer, Path(checkpoint))

    @property
    def model(self) -> torch.nn.Module:
        """The model itself, whose outputs are normalized."""
        return self.trainer._unwrapped_model

    @property
    def energy_scale(self) -> float:
        """eV for each unit of the model's energy."""
        normalizer = self.trainer.normalizers.get("energy")
        return 1.0 if normalizer is None else float(normalizer.rmsd)

    def predict(self, batch: Batch) -> dict[str, torch.Tensor]:
        """`energy` [B] in eV and `forces` [N, 3] in eV/Angstrom of a batch, on its device."""
        out = self.trainer.predict(batch, per_image=False, disable_tqdm=True)
        for key in ("energy", "forces"):
            if not isinstance(out.get(key), torch.Tensor):
                problem = f"predicts no {key}, but {', '.join(out)}; use one of S2EF or QM9"
                raise UserError(f"checkpoint {self.path} {problem}")
        return {"energy": out["energy"].view(-1), "forces": out["forces"]}

    def energies_and_forces(
        self, structures: Sequence[Data], batch_size: int = 64, title: str | None = None
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Energies [B] (eV) and the forces [n, 3] (eV/Angstrom) of each structure as it is."""
        energies, forces = [], []
        for batch in batches(structures, batch_size, title):
            out = self.predict(batch)
            energies += out["energy"].double().tolist()
            forces += split(out["forces"], batch)
        return np.array(energies, dtype=float), forces


def open_labelled(src: Path) -> PhysMolLmdbDataset:
    """Structures with `energy` and `forces` from an LMDB with OCP's keys."""
    labels = {"key_mapping": {"y": "energy", "force": "forces"}, "required": ["energy", "forces"]}
    return PhysMolLmdbDataset({"src": str(src), **labels})


def batches(
    structures: Sequence[Data], batch_size: int, title: str | None = None
) -> Iterator[Batch]:
    """fairchem batches of the structures, in their order."""
    for chunk in chunks(structures, batch_size, title):
        yield data_list_collater(chunk, otf_graph=True)


def split(values: torch.Tensor, batch: Batch) -> list[np.ndarray]:
    """Copies of the values of all atoms of a batch, structure by structure."""
    ends = batch.natoms.cumsum(0).tolist()
    # one transfer from the device: relaxations do this at every step
    return np.split(values.detach().cpu().numpy().copy(), ends[:-1])
