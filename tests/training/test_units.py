"""The physics losses are in eV and Angstrom, whatever the normalizer makes of the labels."""

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import pytest
import torch
from fairchem.core.common.registry import registry
from fairchem.core.datasets import data_list_collater

STDEV = 2.887  # eV, as in configs/s2ef/base.yml
FORCES = {"level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True}
TERMS = {
    "zero_force": {"fn": "zero_force", "coefficient": 1.0},
    "bound": {"fn": "bound", "coefficient": 1.0, "noise": 0.5},
    "restoring_force": {"fn": "restoring_force", "coefficient": 1.0, "noise": 0.1},
}


def loss(folder, term: str, stdev: float, mean: float = 0.0, of_forces: bool = True) -> float:
    """Of a model that predicts the same energies in eV, whatever the stdev of its labels."""
    normalizer = {"energy": {"mean": mean, "stdev": stdev}}
    if of_forces:  # else they have the energy's, as in configs/is2re
        normalizer["forces"] = {"mean": 0, "stdev": stdev}
    energy = {"fn": "mae", "coefficient": 1e-9 * stdev}
    torch.set_default_dtype(torch.float64)
    try:
        trainer = registry.get_trainer_class("physmol")(
            task={},
            model={"name": "physmol", "hidden_channels": 16, "num_layers": 1, "num_rbf": 8,
                   "readout": "atom"},
            outputs={"energy": {"level": "system"}, "forces": FORCES},
            dataset={"train": {"format": "physmol_lmdb", "src": str(folder / "train"),
                               "key_mapping": {"y": "energy", "force": "forces"},
                               "transforms": {"normalizer": normalizer}}},
            optimizer={"batch_size": 4, "num_workers": 0, "lr_initial": 1e-3, "scheduler": "Null"},
            loss_functions=[{"energy": energy}, {term: TERMS[term]}],
            evaluation_metrics={"primary_metric": "energy_mae"},
            identifier="", local_rank=0, is_debug=True, cpu=True, seed=0, logger="tensorboard",
        )  # fmt: skip
    finally:
        torch.set_default_dtype(torch.float32)
    torch.manual_seed(1)
    for name, parameter in trainer.model.named_parameters():
        scale = 0.3 / stdev if "readout" in name else 0.3
        torch.nn.init.normal_(parameter, std=scale)
    structures = [trainer.train_dataset[i] for i in range(8)]
    batch = data_list_collater(structures, otf_graph=True)
    batch = batch.apply(lambda t: t.double() if t.is_floating_point() else t)
    trainer.model.train()
    return trainer._compute_loss(trainer._forward(batch), batch).item()


@pytest.mark.parametrize("term", TERMS)
def test_physics_losses_do_not_depend_on_the_normalizer(term, qm9_folder):
    plain = loss(qm9_folder, term, 1.0)
    assert plain > 1e-3
    assert loss(qm9_folder, term, STDEV) == pytest.approx(plain, rel=1e-9)
    assert loss(qm9_folder, term, STDEV, mean=-0.755) == pytest.approx(plain, rel=1e-6)
    assert loss(qm9_folder, term, STDEV, of_forces=False) == pytest.approx(plain, rel=1e-9)
