"""Real runs of main.py: training, ranks, resuming, prediction, and what checkpoints are for."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import torch_sparse
from conftest import REPOSITORY, losses_by_step, run_main, small_run, start_main, train, wait_for

from ocp_physmol.evaluation.energy_force_errors import energy_and_force_errors
from ocp_physmol.relaxation.predictor import Predictor, open_labelled
from ocp_physmol.training.trainer import PhysMolTrainer


def weights(folder, name="checkpoint.pt"):
    state = torch.load(folder / "checkpoints/run" / name, weights_only=True)
    return {k.removeprefix("module."): v for k, v in state["state_dict"].items()}


def test_every_term_is_logged_by_name(trained):
    log = (trained / "log.txt").read_text()
    for name in ("energy", "masked_atoms", "zero_force", "bound"):
        assert re.search(rf"{name}_loss: \d", log)
    assert len(losses_by_step(log)) == 16  # two epochs of 32 molecules, 4 a step


def test_seed_reproduces(trained, qm9_folder, tmp_path):
    again = train(qm9_folder, tmp_path)
    assert losses_by_step(again.stdout) == losses_by_step((trained / "log.txt").read_text())
    for one, two in zip(weights(trained).values(), weights(tmp_path).values()):
        assert torch.equal(one, two)


@pytest.mark.slow
@pytest.mark.parametrize(("ranks", "optimizer"), [(1, "AdamW"), (1, "SOAP"), (2, "SOAP")])
def test_killed_and_resumed_equals_uninterrupted(ranks, optimizer, qm9_folder, tmp_path):
    """SIGKILL in the middle of an epoch; the run goes on from its newest checkpoint by itself."""
    share = ["--num-gpus", ranks, f"--optim.batch_size={4 // ranks}"]  # 8 steps an epoch
    share.append(f"--optim.optimizer={optimizer}")
    process = start_main(
        "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu", "--run-dir",
        tmp_path, "--timestamp-id", "run", *small_run(qm9_folder), *share,
        "--optim.checkpoint_every=5", "--optim.max_epochs=100000",
    )  # fmt: skip
    checkpoint = tmp_path / "checkpoints/run/checkpoint.pt"
    wait_for(checkpoint.is_file)
    process.kill()
    process.join()
    time.sleep(2)  # by then its ranks are gone too
    step = torch.load(checkpoint, weights_only=True)["step"]  # also of SOAP's state
    time.sleep(1)
    assert step % 5 == 0 and step == torch.load(checkpoint, weights_only=True)["step"]
    epochs = f"--optim.max_epochs={step // 8 + 2}"
    resumed = train(qm9_folder, tmp_path, epochs, *share)
    whole = train(qm9_folder, tmp_path / "whole", epochs, *share)
    after, expected = losses_by_step(resumed.stdout), losses_by_step(whole.stdout)
    assert min(after) == step + 1 and max(after) == 8 * (step // 8 + 2)
    assert after == {number: expected[number] for number in after}
    for one, two in zip(weights(tmp_path).values(), weights(tmp_path / "whole").values()):
        assert torch.equal(one, two)


@pytest.mark.slow
def test_two_ranks_train_like_one(qm9_folder, tmp_path):
    """Half the batch on each of two ranks: the same steps, and the same weights at the end.

    With the default eps, AdamW makes full steps of the rounding errors of gradients that are zero.
    """
    for ranks in (1, 2):
        result = train(
            qm9_folder, tmp_path / str(ranks), "--num-gpus", ranks,
            f"--optim.batch_size={4 // ranks}", "--optim.optimizer_params.eps=0.001",
        )  # fmt: skip
        assert result.returncode == 0, result.stdout[-3000:]
    two = weights(tmp_path / "2")
    for name, one in weights(tmp_path / "1").items():
        torch.testing.assert_close(two[name], one, rtol=1e-2, atol=5e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    sorted(p.name for p in REPOSITORY.glob("configs/qm9/*.yml") if not p.match("*base.yml")),
)
def test_shipped_configs_train_on_two_ranks(config, qm9_folder, labelled_folder, tmp_path):
    """With their own losses, switches and schedulers; only smaller."""
    folder = labelled_folder if "gfn2" in config or config == "taught.yml" else qm9_folder
    options = [o for o in small_run(folder) if "scheduler" not in o]
    if config.startswith(("dimenet", "gemnet")) and not hasattr(torch_sparse, "__file__"):
        pytest.skip("torch_sparse is not installed (extra: baselines)")
    if "physmol" not in config and "quickstart" not in config:  # other names for the sizes
        options = [o for o in options if "--model" not in o]
    seconds = [] if "physmol" in config else ["--optim.max_seconds=2"]
    result = run_main(
        "--mode", "train", "--config-yml", f"configs/qm9/{config}", "--cpu", "--num-gpus", 2,
        "--run-dir", tmp_path, *options, "--optim.batch_size=2", *seconds,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
    assert list(tmp_path.glob("checkpoints/*/best_checkpoint.pt"))


def test_validation_and_prediction_of_a_checkpoint(trained, qm9_folder, tmp_path):
    checkpoint = trained / "checkpoints/run/best_checkpoint.pt"
    common = [
        "--config-yml", "configs/qm9/quickstart.yml", "--cpu", "--run-dir", tmp_path,
        "--timestamp-id", "run", "--checkpoint", checkpoint, *small_run(qm9_folder),
    ]  # fmt: skip
    validated = run_main("--mode", "validate", *common)
    assert "energy_mae" in validated.stdout and validated.returncode == 0
    assert run_main("--mode", "predict", *common).returncode == 0
    predicted = np.load(tmp_path / "results/run/ocp_predictions.npz")
    test = open_labelled(qm9_folder / "test")
    assert sorted(predicted["ids"]) == sorted(f"{d.sid}_0" for d in test)
    assert len(predicted["forces"]) == sum(int(d.natoms) for d in test)
    own = energy_and_force_errors(Predictor.open(checkpoint), test)
    energies = dict(zip(predicted["ids"], predicted["energy"].reshape(-1)))
    errors = [abs(energies[f"{d.sid}_0"] - float(d.energy)) for d in test]
    assert own["energy_mae_mev"] == pytest.approx(1000 * np.mean(errors), abs=2)


def test_energy_only_needs_no_forces_in_training(qm9_folder, tmp_path):
    result = run_main(
        "--mode", "train", "--config-yml", "configs/qm9/quickstart_energy_only.yml", "--cpu",
        "--run-dir", tmp_path, "--timestamp-id", "run", *small_run(qm9_folder),
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
    training, validation = [], []
    for line in result.stdout.splitlines():
        if "(INFO): energy_mae" in line:
            (training if "lr:" in line else validation).append(line)
    assert all("forces" not in line for line in training)
    assert validation and all("forces_mae" in line for line in validation)
    assert not any("classifier" in name for name in weights(tmp_path))


@pytest.mark.slow
def test_time_budget_ends_a_run_in_good_order(qm9_folder, tmp_path):
    result = train(qm9_folder, tmp_path, "--optim.max_seconds=4", "--optim.max_epochs=100000")
    assert result.returncode == 0, result.stdout[-3000:]
    assert "Trained for 4 seconds" in result.stdout
    state = torch.load(tmp_path / "checkpoints/run/checkpoint.pt", weights_only=True)
    assert state["step"] == max(losses_by_step(result.stdout))
    assert state["scheduler"]["lr_lambdas"][0]["used"] >= 4
    assert (tmp_path / "checkpoints/run/best_checkpoint.pt").is_file()
    again = train(qm9_folder, tmp_path, "--optim.max_seconds=4", "--optim.max_epochs=100000")
    assert "Trained for 4 seconds" in again.stdout  # what was used stays used
    assert not losses_by_step(again.stdout)


@pytest.mark.parametrize("moment", ["in a step", "in a validation"])
def test_a_warning_saves_the_last_complete_step(moment, qm9_folder, tmp_path):
    """While a validation runs, the averaged weights are in place of those that are trained."""
    trainer = PhysMolTrainer(
        task={},
        model={"name": "physmol", "hidden_channels": 16, "num_layers": 1, "num_rbf": 8},
        outputs={"energy": {"level": "system"}},
        dataset={split: {"format": "physmol_lmdb", "src": str(qm9_folder / split),
                         "key_mapping": {"y": "energy"}} for split in ("train", "val")},
        optimizer={"batch_size": 4, "num_workers": 0, "lr_initial": 1e-2, "scheduler": "Null",
                   "ema_decay": 0.5, "eval_every": 4, "max_epochs": 1},
        loss_functions=[{"energy": {"fn": "mae", "coefficient": 1.0}}],
        evaluation_metrics={"metrics": {"energy": ["mae"]}, "primary_metric": "energy_mae"},
        identifier="", local_rank=0, run_dir=str(tmp_path), timestamp_id="run", cpu=True, seed=0,
        logger="tensorboard",
    )  # fmt: skip
    forward, validate, trained = trainer._forward, trainer.validate, {}

    def remember():
        trained.update({name: v.clone() for name, v in trainer.model.state_dict().items()})

    def warned(batch):
        if trainer.model.training:
            remember()
        training_ends = moment == "in a step" and trainer.step == 6
        if training_ends or (not trainer.model.training and moment == "in a validation"):
            os.kill(os.getpid(), signal.SIGUSR2)
        return forward(batch)

    def remembered(*args, **kwargs):
        remember()
        return validate(*args, **kwargs)

    def stop(*call):
        trainer.save_if_training()
        sys.exit()

    trainer._forward, trainer.validate = warned, remembered
    before = signal.signal(signal.SIGUSR2, stop)
    try:
        with pytest.raises(SystemExit):
            trainer.train(disable_eval_tqdm=True)
    finally:
        signal.signal(signal.SIGUSR2, before)
    state = torch.load(tmp_path / "checkpoints/run/checkpoint.pt", weights_only=True)
    assert state["step"] == (4 if moment == "in a validation" else 5)
    for name, value in state["state_dict"].items():
        assert torch.equal(value, trained[name])


@pytest.mark.slow
def test_overfits_a_handful_of_molecules(qm9_folder, tmp_path):
    """Enough capacity, exact gradients: the four smallest molecules are learned by heart."""
    result = train(
        qm9_folder, tmp_path, "--dataset.train.first_n=4", "--dataset.val.first_n=1",
        "--optim.max_epochs=400", "--optim.eval_every=400", "--optim.lr_initial=0.01",
        "--model.hidden_channels=32", "--optim.ema_decay=None",
        "--optim.scheduler=None",  # the rate falls to zero; else the last step is one of many
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
    lines = [line for line in result.stdout.splitlines() if " step: " in line]
    last = {k: float(v) for k, v in re.findall(r"(\w+): ([-\d.e+]+)", lines[-1])}
    assert last["energy_mae"] < 0.02 and last["forces_mae"] < 0.05
    assert last["masked_atoms_loss"] < 0.5 and last["bound_loss"] < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["checkpoint.pt", "best_checkpoint.pt"])
def test_calculator_opens_a_checkpoint_in_a_fresh_process(name, trained):
    code = f"""
import ocp_physmol.plugin
from fairchem.core import OCPCalculator
from ase.build import molecule
water = molecule("H2O", vacuum=10)
water.pbc = True
water.calc = OCPCalculator(checkpoint_path={str(trained / "checkpoints/run" / name)!r})
energy, forces = water.get_potential_energy(), water.get_forces()
assert -3000 < energy < -1000, energy  # eV; U0 of water is -2079
assert forces.shape == (3, 3) and abs(forces.sum(axis=0)).max() < 1e-3
water.pbc = False
water.cell = None
water.calc.reset()
assert abs(water.get_potential_energy() - energy) < 1e-3  # a box or none, the same water
"""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, cwd="/"
    )
    assert result.returncode == 0, result.stderr[-3000:]


def test_checkpoint_is_complete_or_not_there(trained, tmp_path, monkeypatch):
    """A crash while writing leaves the former checkpoint untouched."""
    from fairchem.core.trainers import base_trainer

    trainer = Predictor.open(trained / "checkpoints/run/best_checkpoint.pt").trainer
    trainer.is_debug = False
    trainer.config["cmd"]["checkpoint_dir"] = str(tmp_path)
    first = trainer.save(training_state=False)
    before = Path(first).read_bytes()

    def crash(state, checkpoint_dir, checkpoint_file):
        Path(checkpoint_dir, checkpoint_file).write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(base_trainer, "save_checkpoint", crash)
    with pytest.raises(OSError, match="disk full"):
        trainer.save(training_state=False)
    assert Path(first).read_bytes() == before
