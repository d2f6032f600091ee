"""Commands at the same time in one folder: one is refused in a sentence, or both are right."""

import threading

import pytest
import torch
import warm
from conftest import SAMPLE_CSV, losses_by_step, run_main, small_run, start_main, wait_for
from experiments.handmade import record, write_all

from ocp_physmol.datasets import qm9
from ocp_physmol.experiments.records import read_records


@pytest.mark.slow
def test_two_trainings_on_one_folder(qm9_folder, tmp_path):
    command = [
        "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu", "--run-dir",
        tmp_path, "--timestamp-id", "run", *small_run(qm9_folder), "--optim.checkpoint_every=5",
        "--optim.max_epochs=100000",
    ]  # fmt: skip
    first = start_main(*command)
    try:
        wait_for((tmp_path / "checkpoints/run/checkpoint.pt").is_file)
        second = run_main(*command)
        assert second.returncode == 2 and "Traceback" not in second.stdout
        assert "error: another command trains in" in second.stdout
        assert first.is_alive()
    finally:
        warm.kill(first)


@pytest.mark.slow
def test_a_training_keeps_the_data_it_has_opened(trained, tmp_path):
    """Other data come in their place; the losses are those of the data it began with."""
    qm9.make(tmp_path / "qm9", str(SAMPLE_CSV))
    newest, log = tmp_path / "checkpoints/run/checkpoint.pt", tmp_path / "log.txt"
    process = warm.start(
        ["main.py", "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml", "--cpu",
         "--run-dir", str(tmp_path), "--timestamp-id", "run", "--print-every", "1",
         *small_run(tmp_path / "qm9"), "--optim.checkpoint_every=1", "--optim.max_epochs=100000"],
        str(log),
    )  # fmt: skip
    try:
        wait_for(newest.is_file)
        qm9.make(tmp_path / "qm9", str(SAMPLE_CSV), num_molecules=20, seed=1)
        rewritten = torch.load(newest, weights_only=True)["step"]
        wait_for(lambda: max(losses_by_step(log.read_text())) > rewritten + 20)
    finally:
        warm.kill(process)
    expected = losses_by_step((trained / "log.txt").read_text())
    found = losses_by_step(log.read_text())
    assert {step: found[step] for step in expected} == expected
    assert "Traceback" not in log.read_text()


def test_records_are_read_while_they_are_written(tmp_path):
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            write_all(tmp_path, record(str(number % 5), energy=float(number)))
            number += 1

    other = threading.Thread(target=write)
    other.start()
    try:
        wait_for(lambda: len(list(tmp_path.glob("table1/*.json"))) == 5)
        for _ in range(30):
            assert len(read_records(tmp_path)["table1"]) == 5
    finally:
        stop.set()
        other.join()
