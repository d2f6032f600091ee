"""References of the elements take up what an untrained model predicts."""

import pytest
import torch
from torch.utils.data import Subset

from ocp_physmol.relaxation.predictor import Predictor
from ocp_physmol.training import references
from ocp_physmol.training.references import subtract_untrained
from ocp_physmol.training.trainer import PhysMolTrainer

FITTED = {"element_references": {"fit": {"targets": ["energy"], "batch_size": 8}}}
SCALED = {**FITTED, "normalizer": {"energy": {"mean": 0.5, "stdev": 2.0}}}
SIZES = {"hidden_channels": 16, "num_layers": 1, "num_rbf": 8}
PHYSMOL = {"name": "physmol", "readout": "physics", **SIZES}
SCHNET = {"name": "conservative", "energy_model": {
    "name": "fairchem.core.models.schnet.SchNetWrap", "hidden_channels": 16, "num_filters": 16,
    "num_interactions": 1, "num_gaussians": 8, "cutoff": 5.0}}  # fmt: skip


def trainer(qm9_folder, run_dir, model=PHYSMOL, transforms=FITTED) -> PhysMolTrainer:
    return PhysMolTrainer(
        task={}, model=dict(model), outputs={"energy": {"level": "system"}},
        dataset={"train": {"format": "physmol_lmdb", "src": str(qm9_folder / "train"),
                           "key_mapping": {"y": "energy"}, "transforms": transforms}},
        optimizer={"batch_size": 4, "num_workers": 0, "lr_initial": 1e-3, "max_steps": 4,
                   "max_epochs": 1},
        loss_functions=[{"energy": {"fn": "mae", "coefficient": 1.0}}],
        evaluation_metrics={"metrics": {"energy": ["mae"]}, "primary_metric": "energy_mae"},
        identifier="", local_rank=0, run_dir=str(run_dir), timestamp_id="run", cpu=True, seed=0,
        logger="tensorboard",
    )  # fmt: skip


def errors(run: PhysMolTrainer, share: float = 1) -> torch.Tensor:
    """Of the energies of the training structures, in eV, with this share of the model's energy."""
    data = run.train_dataset
    batch = run.collater([data[k] for k in range(len(data))])
    run.model.eval()
    with torch.no_grad():
        out = share * super(PhysMolTrainer, run)._forward(batch)["energy"].double()
    return run._denorm_preds("energy", out, batch).flatten() - batch.energy


def subtract(run: PhysMolTrainer) -> None:
    subtract_untrained(run, super(PhysMolTrainer, run)._forward)


@pytest.mark.parametrize("model", [PHYSMOL, SCHNET], ids=["physmol", "schnet"])
@pytest.mark.parametrize("transforms", [FITTED, SCALED], ids=["plain", "normalized"])
def test_untrained_predictions_are_nearly_the_references(qm9_folder, tmp_path, model, transforms):
    run = trainer(qm9_folder, tmp_path, model, transforms)
    without_model = errors(run, share=0)
    energies = errors(run) - without_model
    subtract(run)
    left = errors(run) - without_model
    assert left.norm() < 0.3 * energies.norm()


def test_without_references_all_elements_get_the_same(qm9_folder, tmp_path):
    """The mean of the model's energies per atom; the labels have no say."""
    run = trainer(qm9_folder, tmp_path, transforms={})
    energies = errors(run) - errors(run, share=0)
    natoms = torch.tensor([float(data.natoms) for data in run.train_dataset]).double()
    subtract(run)
    references = run.elementrefs["energy"].element_references
    expected = -float(energies @ natoms / natoms.square().sum())
    torch.testing.assert_close(references, torch.full_like(references, expected))


def test_elements_that_do_not_occur_keep_theirs(qm9_folder, tmp_path):
    run = trainer(qm9_folder, tmp_path)
    run.train_dataset = Subset(run.train_dataset, [0])
    before = run.elementrefs["energy"].element_references.clone()
    subtract(run)
    changed = (run.elementrefs["energy"].element_references != before).nonzero().flatten()
    assert set(changed.tolist()) == set(run.train_dataset[0].atomic_numbers.int().tolist())


def test_rare_elements_are_in_the_sample(qm9_folder, tmp_path, monkeypatch):
    """A prior has energies of its own, of every element, which no reference may keep."""
    run = trainer(qm9_folder, tmp_path)
    data = run.train_dataset
    known = run.elementrefs["energy"].element_references.nonzero().flatten().tolist()
    monkeypatch.setattr(references, "SAMPLE", 1)
    chosen = references._sample(run).tolist()
    present = {z for index in chosen for z in data[index].atomic_numbers.int().tolist()}
    assert present == set(known) and len(set(chosen)) == len(chosen)
    for z in set(known) - set(data[chosen[0]].atomic_numbers.int().tolist()):
        there = [z in entry.atomic_numbers.tolist() for entry in data]
        assert sum(there[index] for index in chosen) >= min(references.RARE, sum(there))


def test_forces_alone_need_none(qm9_folder, tmp_path):
    run = trainer(qm9_folder, tmp_path, transforms={})
    run.output_targets = {"forces": {"level": "atom"}}
    subtract(run)
    assert "energy" not in run.elementrefs


def test_only_a_new_training_takes_them(qm9_folder, tmp_path):
    """A checkpoint keeps them, for whoever opens it and for a training that goes on from it."""
    run = trainer(qm9_folder, tmp_path, transforms={})
    run.train(disable_eval_tqdm=True)
    taken = run.elementrefs["energy"].element_references
    checkpoint = tmp_path / "checkpoints/run/checkpoint.pt"
    opened = Predictor.open(checkpoint).trainer.elementrefs["energy"].element_references
    assert torch.equal(opened, taken) and taken.abs().max() > 0
    again = trainer(qm9_folder, tmp_path, transforms={})
    again.load_checkpoint(str(checkpoint))
    again.config["optim"]["max_steps"] = 8
    again.train(disable_eval_tqdm=True)
    assert torch.equal(again.elementrefs["energy"].element_references, taken)
