"""Gradients of the terms on two real ranks are those of one rank with the whole batch."""

from typing import NamedTuple

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fairchem.core.datasets import data_list_collater

from ocp_physmol.training.trainer import PhysMolTrainer

TERMS = {
    "energy": {"fn": "mae", "coefficient": 1.0},
    "forces": {"fn": "l2mae", "coefficient": 1.0},
    "masked_atoms": {"fn": "masked_atoms", "coefficient": 1.0, "mask_ratio": 0.3},
    "zero_force": {"fn": "zero_force", "coefficient": 1.0},
    "bound": {"fn": "bound", "coefficient": 1.0, "noise": 0.5},
}
RESTORING = {"fn": "restoring_force", "coefficient": 1.0, "noise": 0.1}

# beside a physics term the trainer wants the loss of one output
ENERGY = {"energy": {"fn": "mae", "coefficient": 1e-3}}


FORCES = {"level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True}
LABELS = {"y": "energy", "force": "forces"}


class Task(NamedTuple):
    """What a run learns from: its data, outputs and losses."""

    folder: str
    key_mapping: dict
    outputs: dict
    terms: dict
    restoring: bool  # whether the structures are free molecules


@pytest.fixture(scope="session", params=["qm9", "s2ef", "is2re"])
def task(request, qm9_folder, emt_folder) -> Task:
    folder = qm9_folder if request.param == "qm9" else emt_folder / request.param
    outputs, mapping, terms = {"energy": {"level": "system"}}, {"y_relaxed": "energy"}, dict(TERMS)
    if request.param == "is2re":
        del terms["forces"]
    else:
        outputs, mapping = {**outputs, "forces": FORCES}, LABELS
    return Task(str(folder), mapping, outputs, terms, request.param == "qm9")


def make_trainer(task: Task, terms: dict) -> PhysMolTrainer:
    return PhysMolTrainer(
        task={},
        model={"name": "physmol", "hidden_channels": 16, "num_layers": 2, "num_rbf": 8,
               "vector_channels": 8},
        outputs=task.outputs,
        dataset={"train": {"format": "physmol_lmdb", "src": f"{task.folder}/train",
                           "key_mapping": task.key_mapping}},
        optimizer={"batch_size": 4, "num_workers": 0, "lr_initial": 1e-3, "scheduler": "Null"},
        loss_functions=[{name: options} for name, options in terms.items()],
        evaluation_metrics={"primary_metric": "energy_mae"},
        identifier="", local_rank=0, is_debug=True, cpu=True, seed=0, logger="tensorboard",
    )  # fmt: skip


def chosen(trainer: PhysMolTrainer) -> list:
    """Eight structures, at least one of them at equilibrium, all of the others in S2EF moving."""
    structures = trainer.train_dataset.dataset
    if "pos_relaxed" in structures[0]:
        return [structures[i] for i in range(8)]
    largest = [(s.forces.norm(dim=1) * (s.fixed == 0)).max() for s in structures]
    order = sorted(range(len(structures)), key=lambda i: largest[i])
    return [structures[i] for i in [*order[:1], *order[-7:]]]


def gradients(task: Task, entries: list[int], terms: dict) -> list[torch.Tensor]:
    """Gradient of every parameter after one backward pass over these of the chosen entries.

    By the formulas: the differences that force losses use else depend on the batch.
    """
    torch.set_default_dtype(torch.float64)
    try:
        trainer = make_trainer(task, terms)
    finally:
        torch.set_default_dtype(torch.float32)
    torch.manual_seed(1)
    for parameter in trainer.model.parameters():  # also those that start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    structures = chosen(trainer)
    batch = data_list_collater([structures[i] for i in entries], otf_graph=True)
    batch = batch.apply(lambda t: t.double() if t.is_floating_point() else t)
    trainer.model.train()
    trainer._unwrapped_model._must_be_exact = lambda pos: True
    trainer._compute_loss(trainer._forward(batch), batch).backward()
    return [p.grad for p in trainer.model.parameters()]


def rank_gradients(rank: int, task: Task, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=2)
    share = [[0, 1, 2], [3, 4, 5, 6, 7]][rank]  # as many structures and atoms as it comes
    found = {n: gradients(task, share, {**ENERGY, n: term}) for n, term in task.terms.items()}
    found["all"] = gradients(task, share, task.terms)
    if task.restoring:
        found["restoring_force"] = gradients(task, share, {**ENERGY, "restoring_force": RESTORING})
    if rank == 0:
        torch.save(found, f"{out}/gradients.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="session")
def two_ranks(task, tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank_gradients, args=(task, str(out)), nprocs=2)
    return torch.load(out / "gradients.pt", weights_only=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*TERMS, "all", "restoring_force"])
def test_two_ranks_have_the_gradients_of_one_with_the_whole_batch(name, two_ranks, task):
    if name not in two_ranks:
        pytest.skip("IS2RE has no force labels, and restoring forces are for molecules")
    every = {**task.terms, "restoring_force": RESTORING}
    terms = task.terms if name == "all" else {**ENERGY, name: every[name]}
    alone = gradients(task, list(range(8)), terms)
    assert len(alone) == len(two_ranks[name])
    largest = max(float(g.abs().max()) for g in alone)
    assert largest > 1e-3
    for one, two in zip(alone, two_ranks[name]):
        torch.testing.assert_close(two, one, rtol=1e-6, atol=1e-9 * largest)
