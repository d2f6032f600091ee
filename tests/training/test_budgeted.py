"""Training for a budget: its end, learning rate, validations, and the average of weights."""

import time

import pytest
import torch

from ocp_physmol.training import budget
from ocp_physmol.training.budget import Budget
from ocp_physmol.training.trainer import PhysMolTrainer

EPOCH = 8  # steps: 32 molecules, 4 a step
RATE = 1e-2


def trainer(qm9_folder, run_dir, **optim) -> PhysMolTrainer:
    """A small model in training on the sample of QM9."""
    return PhysMolTrainer(
        task={},
        model={"name": "physmol", "hidden_channels": 16, "num_layers": 1, "num_rbf": 8},
        outputs={"energy": {"level": "system"}},
        dataset={split: {"format": "physmol_lmdb", "src": str(qm9_folder / split),
                         "key_mapping": {"y": "energy"}} for split in ("train", "val")},
        optimizer={"batch_size": 4, "num_workers": 0, "lr_initial": RATE, "max_epochs": 1,
                   **optim},
        loss_functions=[{"energy": {"fn": "mae", "coefficient": 1.0}}],
        evaluation_metrics={"metrics": {"energy": ["mae"]}, "primary_metric": "energy_mae"},
        identifier="", local_rank=0, run_dir=str(run_dir), timestamp_id="run", cpu=True, seed=0,
        logger="tensorboard",
    )  # fmt: skip


def trained(qm9_folder, run_dir, checkpoint=None, **optim) -> PhysMolTrainer:
    run = trainer(qm9_folder, run_dir, **optim)
    if checkpoint:
        run.load_checkpoint(str(checkpoint))
    run.train(disable_eval_tqdm=True)
    return run


def rates(run: PhysMolTrainer) -> list[float]:
    """Filled with the learning rate of each step that the trainer takes."""
    found, backward = [], run._backward

    def watched(loss):
        found.append(run.scheduler.get_lr())
        backward(loss)

    run._backward = watched
    return found


# ---- the average of the weights


def test_the_average_forgets_the_starting_weights(qm9_folder, tmp_path):
    """After 8 steps, a decay of 0.999 alone would leave 99 % of them."""
    run = trainer(qm9_folder, tmp_path, ema_decay=0.999)
    start = [p.detach().clone() for p in run.ema.shadow_params]
    run.train(disable_eval_tqdm=True)
    ways = zip(start, run.ema.shadow_params, run.model.parameters())
    gone = [((mean - first).norm(), (last - first).norm()) for first, mean, last in ways]
    assert sum(mean for mean, _ in gone) > 0.5 * sum(last for _, last in gone) > 0
    assert run.ema.num_updates == EPOCH


def test_a_resumed_average_is_the_uninterrupted_one(qm9_folder, tmp_path):
    options = {"ema_decay": 0.999, "scheduler": "Null"}
    whole = trained(qm9_folder, tmp_path / "whole", **options, max_epochs=2)
    trained(qm9_folder, tmp_path, **options)
    checkpoint = tmp_path / "checkpoints/run/checkpoint.pt"
    resumed = trained(qm9_folder, tmp_path, checkpoint, **options, max_epochs=2)
    assert resumed.ema.num_updates == whole.ema.num_updates == 2 * EPOCH
    for one, two in zip(resumed.ema.shadow_params, whole.ema.shadow_params):
        assert torch.equal(one, two)


def test_fine_tuning_begins_a_new_average(qm9_folder, tmp_path):
    """The best weights come without their average and without a count of steps."""
    trained(qm9_folder, tmp_path, ema_decay=0.999)
    best = tmp_path / "checkpoints/run/best_checkpoint.pt"
    tuned = trained(qm9_folder, tmp_path / "tuned", best, ema_decay=0.999)
    assert tuned.ema.num_updates == EPOCH


# ---- the learning rate


def test_the_rate_warms_up_and_falls_with_time_or_steps():
    by_steps, by_time = Budget(None, 1000), Budget(100.0, 10**9)
    values = [by_steps(step) for step in range(1001)]
    assert values[0] == pytest.approx(budget.FINAL) and values[1000] == pytest.approx(budget.FINAL)
    top = int(1000 * budget.WARMUP)
    assert max(values) == values[top] == 1
    assert sorted(values[: top + 1]) == values[: top + 1]
    assert sorted(values[top:], reverse=True) == values[top:]
    by_time.used = 30.0
    assert by_time(1) == pytest.approx(by_steps(300))


@pytest.mark.parametrize("limit", [{"max_epochs": 3}, {"max_epochs": 9, "max_steps": 3 * EPOCH}])
def test_steps_end_a_training_at_the_lowest_rate(limit, qm9_folder, tmp_path):
    run = trainer(qm9_folder, tmp_path, **limit)
    found = rates(run)
    run.train(disable_eval_tqdm=True)
    assert len(found) == 3 * EPOCH == run.step
    assert found[0] < found[1] == pytest.approx(RATE, rel=0.05) and found[-1] < 0.03 * RATE


def test_a_resumed_rate_is_the_uninterrupted_one(qm9_folder, tmp_path):
    """From a checkpoint in the middle of a run, as a killed one leaves it."""
    options = {"max_epochs": 2, "checkpoint_every": 5}
    run = trainer(qm9_folder, tmp_path, **options)
    whole, save = rates(run), run.save

    def killed(**kwargs):
        save(**kwargs)
        raise KeyboardInterrupt

    run.save = killed
    with pytest.raises(KeyboardInterrupt):
        run.train(disable_eval_tqdm=True)
    again = trainer(qm9_folder, tmp_path, **options)
    again.load_checkpoint(str(tmp_path / "checkpoints/run/checkpoint.pt"))
    rest = rates(again)
    again.train(disable_eval_tqdm=True)
    uninterrupted = trainer(qm9_folder, tmp_path / "whole", **options)
    expected = rates(uninterrupted)
    uninterrupted.train(disable_eval_tqdm=True)
    assert len(whole) == 5 and whole + rest == pytest.approx(expected, rel=1e-9)


def test_a_budget_that_is_given_anew_wins(qm9_folder, tmp_path):
    """Also over a checkpoint that has used up the old one, and so does a new learning rate."""
    trained(qm9_folder, tmp_path, max_seconds=0.3, max_epochs=10**6)
    checkpoint = tmp_path / "checkpoints/run/checkpoint.pt"
    run = trainer(qm9_folder, tmp_path, max_seconds=1.0, max_epochs=10**6, lr_initial=RATE / 2)
    run.load_checkpoint(str(checkpoint))
    done, found = run.step, rates(run)
    run.train(disable_eval_tqdm=True)
    assert run.step > done and run.scheduler.budget.used >= 1.0
    assert 0.3 * RATE < found[0] < 0.45 * RATE  # a third of the time is gone
    state = torch.load(checkpoint, weights_only=True)
    assert state["scheduler"]["lr_lambdas"][0]["seconds"] == 1.0


@pytest.mark.parametrize("first, then", [
    ({"scheduler": "ReduceLROnPlateau"}, {"max_seconds": 1.0}),
    ({"max_seconds": 1.0}, {"scheduler": "ReduceLROnPlateau"}),
])  # fmt: skip
def test_a_checkpoint_of_another_schedule_can_be_gone_on_from(first, then, qm9_folder, tmp_path):
    trained(qm9_folder, tmp_path, **first)
    checkpoint = tmp_path / "checkpoints/run/checkpoint.pt"
    run = trainer(qm9_folder, tmp_path, **then, max_epochs=2)
    run.load_checkpoint(str(checkpoint))
    rate = run.optimizer.param_groups[0]["lr"]
    assert rate > 0.4 * run.config["optim"]["lr_initial"]  # not what a finished budget has left
    run.train(disable_eval_tqdm=True)
    assert run.step == 2 * EPOCH


def test_ranks_spend_the_seconds_of_one(qm9_folder, tmp_path, monkeypatch):
    """Two of them agree on the mean of their seconds, not on the sum."""
    ranks = 2
    monkeypatch.setattr(
        budget.distutils, "all_reduce",
        lambda value, group=None, average=False, device=None: value * (1 if average else ranks),
    )  # fmt: skip
    run = trainer(qm9_folder, tmp_path, max_seconds=100.0)
    run.scheduler.start()
    begin = time.perf_counter()
    time.sleep(0.2)
    run.scheduler.step()
    assert 0.2 <= run.scheduler.budget.used <= time.perf_counter() - begin


# ---- validation


@pytest.mark.parametrize("limit", [{"max_steps": 20}, {"max_seconds": 1.5}])
def test_validations_are_close_together_at_first(limit, qm9_folder, tmp_path):
    run = trainer(qm9_folder, tmp_path, max_epochs=10**6, evaluations=5, **limit)
    shares, validate = [], run.validate

    def watched(*args, **kwargs):
        shares.append(run.scheduler._share())
        time.sleep(0.2)  # off the clock
        return validate(*args, **kwargs)

    run.validate = watched
    run.train(disable_eval_tqdm=True)
    assert len(shares) == 5 and shares[-1] == 1
    # a step, which ends a part, lasts less than a tenth of the budget
    assert all(0 <= share - (k / 5) ** 2 < 0.1 for k, share in enumerate(shares, start=1))
    checkpoints = tmp_path / "checkpoints/run"
    assert (checkpoints / "checkpoint.pt").is_file()
    assert (checkpoints / "best_checkpoint.pt").is_file()


# ---- what an interruption has swallowed


def interrupted(qm9_folder, run_dir, at: int, **optim) -> None:
    """A training that ends within its validation `at`, as one that is killed there."""
    run, seen = trainer(qm9_folder, run_dir, **optim), []
    validate = run.validate

    def watched(*args, **kwargs):
        seen.append(run.step)
        if len(seen) == at:
            run.save()  # as SLURM's warning has it
            raise KeyboardInterrupt
        return validate(*args, **kwargs)

    run.validate = watched
    with pytest.raises(KeyboardInterrupt):
        run.train(disable_eval_tqdm=True)


def resumed(qm9_folder, run_dir, **optim) -> tuple[PhysMolTrainer, list[int]]:
    """The rest of an interrupted training, and the steps at which it has validated."""
    rest = trainer(qm9_folder, run_dir, **optim)
    rest.load_checkpoint(str(run_dir / "checkpoints/run/checkpoint.pt"))
    steps, validate = [], rest.validate
    rest.validate = lambda *a, **k: steps.append(rest.step) or validate(*a, **k)
    rest.train(disable_eval_tqdm=True)
    return rest, steps


@pytest.mark.parametrize("optim", [
    {"scheduler": "ReduceLROnPlateau", "mode": "min", "factor": 0.5, "patience": 0},
    {"scheduler": "StepLR", "step_size": 3, "gamma": 0.5},
    {},
])  # fmt: skip
def test_the_validation_of_a_step_is_made_up_for(optim, qm9_folder, tmp_path):
    """And the scheduler's step, where the newest checkpoint was written before both."""
    optim = {**optim, "max_epochs": 2, "eval_every": 4, "ema_decay": 0.9}
    whole = trained(qm9_folder, tmp_path / "whole", **optim)
    interrupted(qm9_folder, tmp_path, at=2, **optim)
    rest, steps = resumed(qm9_folder, tmp_path, **optim)
    assert steps == [8, 12, 16]
    states = [run.scheduler.scheduler.state_dict() for run in (whole, rest)]
    assert states[0]["last_epoch"] == states[1]["last_epoch"]
    for one, two in zip(whole.model.parameters(), rest.model.parameters()):
        assert torch.equal(one, two)


def test_the_validation_of_a_mark_is_made_up_for(qm9_folder, tmp_path):
    optim = {"max_epochs": 10**6, "max_steps": 40, "evaluations": 4}
    interrupted(qm9_folder, tmp_path, at=2, **optim)
    _, steps = resumed(qm9_folder, tmp_path, **optim)
    assert steps == [10, 23, 40]  # (2/4)^2 of 40, which was broken off, (3/4)^2 and the end


# ---- what no loss reaches


@pytest.mark.parametrize("model, output, weight", [
    ({"use_masking": True, "readout": "atom"}, "energy", "classifier"),
    ({"readout": "atom"}, "forces", "f_atom.bias"),
])  # fmt: skip
def test_all_weights_have_a_gradient(model, output, weight, qm9_folder, tmp_path):
    """Without one, the second step of several ranks ends in an error of theirs."""
    run = trainer(qm9_folder, tmp_path)
    run.config["model"] |= model
    run.load_model()
    run.output_targets["forces"] = {"level": "atom", "train_on_free_atoms": True}
    run.config["loss_functions"] = [{output: {"fn": "mae", "coefficient": 1.0}}]
    run.load_loss()
    batch = run.collater([run.train_dataset[k] for k in range(4)])
    batch.forces = torch.zeros_like(batch.pos)
    run.model.train()
    run._compute_loss(run._forward(batch), batch).backward()
    gradients = {n: p.grad for n, p in run.model.named_parameters()}
    assert all(g is not None for g in gradients.values())
    assert any(weight in name and not g.any() for name, g in gradients.items())
