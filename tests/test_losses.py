"""The losses as functions, and their gradients on one and on two real ranks."""

from ocp_physmol import losses  # before fairchem, as in every fresh process

# isort: split
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from fairchem.core.common.registry import registry
from fairchem.core.datasets import data_list_collater

from ocp_physmol.trainer import PhysMolTrainer

TERMS = {
    "energy": {"fn": "mae", "coefficient": 1.0},
    "forces": {"fn": "l2mae", "coefficient": 1.0},
    "masked_atoms": {"fn": "masked_atoms", "coefficient": 1.0, "mask_ratio": 0.3},
    "zero_force": {"fn": "zero_force", "coefficient": 1.0},
    "bound": {"fn": "bound", "coefficient": 1.0, "noise": 0.5},
}


# beside a physics term the trainer wants the loss of one output
ENERGY = {"energy": {"fn": "mae", "coefficient": 1e-3}}


def test_masked_atoms_is_the_negative_log_likelihood():
    logits = torch.tensor([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
    target = torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    expected = -torch.log(torch.softmax(logits, -1)[[0, 1], [0, 1]])
    torch.testing.assert_close(losses.masked_atoms(logits, target), expected)


def test_zero_force_is_the_squared_norm():
    forces = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0]])
    assert losses.zero_force(forces, torch.zeros(2, 3)).tolist() == [25.0, 0.0]


def test_bound_counts_only_displaced_structures_that_lie_lower():
    energy, displaced = torch.tensor([1.0, 1.0]), torch.tensor([0.2, 3.0])
    assert losses.bound(energy, displaced).tolist() == pytest.approx([0.8, 0.0])


@pytest.mark.parametrize("name", ["masked_atoms", "zero_force", "bound"])
def test_registered(name):
    assert registry.get_loss_class(name)


def test_term_without_items_is_zero_and_differentiable():
    prediction = torch.zeros(0, 3, requires_grad=True)
    loss = losses.LossTerm("zero_force", None)(prediction, prediction.detach(), torch.tensor([1]))
    loss.backward()
    assert float(loss) == 0


# ---- ranks


def make_trainer(folder: str, terms: dict) -> PhysMolTrainer:
    atom = {"level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True}
    return PhysMolTrainer(
        task={},
        model={"name": "physmol", "hidden_channels": 16, "num_layers": 1, "num_rbf": 8},
        outputs={"energy": {"level": "system"}, "forces": atom},
        dataset={"train": {"format": "physmol_lmdb", "src": f"{folder}/train",
                           "key_mapping": {"y": "energy", "force": "forces"}}},
        optimizer={"batch_size": 4, "num_workers": 0, "lr_initial": 1e-3, "scheduler": "Null"},
        loss_functions=[{name: options} for name, options in terms.items()],
        evaluation_metrics={"primary_metric": "energy_mae"},
        identifier="", local_rank=0, is_debug=True, cpu=True, seed=0, logger="tensorboard",
    )  # fmt: skip


def gradients(folder: str, entries: list[int], terms: dict) -> list[torch.Tensor]:
    """Gradient of every parameter after one backward pass over these entries."""
    trainer = make_trainer(folder, terms)
    torch.manual_seed(1)
    for parameter in trainer.model.parameters():  # also those that start at zero
        torch.nn.init.normal_(parameter, std=0.1)
    structures = trainer.train_dataset.dataset
    batch = data_list_collater([structures[i] for i in entries], otf_graph=True)
    trainer.model.train()
    trainer._compute_loss(trainer._forward(batch), batch).backward()
    return [p.grad for p in trainer.model.parameters()]


def rank_gradients(rank: int, folder: str, out: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{out}/store", rank=rank, world_size=2)
    shares = [[0, 1, 2], [3, 4, 5, 6, 7]]  # as many structures and atoms as it comes
    found = {name: gradients(folder, shares[rank], {**ENERGY, name: TERMS[name]}) for name in TERMS}
    found["all"] = gradients(folder, shares[rank], TERMS)
    if rank == 0:
        torch.save(found, f"{out}/gradients.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(qm9_folder, tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("ranks")
    mp.spawn(rank_gradients, args=(str(qm9_folder), str(out)), nprocs=2)
    return torch.load(out / "gradients.pt", weights_only=True)


@pytest.mark.parametrize("name", [*TERMS, "all"])
def test_two_ranks_have_the_gradients_of_one_with_the_whole_batch(name, two_ranks, qm9_folder):
    terms = TERMS if name == "all" else {**ENERGY, name: TERMS[name]}
    alone = gradients(str(qm9_folder), list(range(8)), terms)
    assert len(alone) == len(two_ranks[name])
    largest = max(float(g.abs().max()) for g in alone)
    assert largest > 1e-3
    for one, two in zip(alone, two_ranks[name]):
        # a difference of energies leaves the rounding of the largest numbers in the smallest
        atol = 1e-5 * max(1.0, float(one.abs().max())) + 1e-7 * largest
        torch.testing.assert_close(two, one, rtol=1e-3, atol=atol)
