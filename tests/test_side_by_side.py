"""Commands at the same time in one folder: one is refused in a sentence, or both are right."""

import threading
import time

import pytest
from conftest import SAMPLE_CSV, losses_by_step, run_main, small_run, start_main, train
from experiments.handmade import record, write_all

from ocp_physmol import files
from ocp_physmol.datasets import qm9
from ocp_physmol.errors import UserError
from ocp_physmol.experiments.records import read_records


def wait_for(condition, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


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
        first.kill()
        first.join()


@pytest.mark.slow
def test_a_training_keeps_the_data_it_has_opened(qm9_folder, trained, tmp_path):
    """Other data come in their place; the losses are those of the data it began with."""
    qm9.make(tmp_path / "qm9", str(SAMPLE_CSV))
    rewritten = threading.Event()

    def rewrite() -> None:
        wait_for((tmp_path / "checkpoints/run/element_references.pt").is_file)
        qm9.make(tmp_path / "qm9", str(SAMPLE_CSV), num_molecules=20, seed=1)
        rewritten.set()

    other = threading.Thread(target=rewrite)
    other.start()
    result = train(tmp_path / "qm9", tmp_path)
    other.join()
    assert result.returncode == 0 and rewritten.is_set()
    assert losses_by_step(result.stdout) == losses_by_step((trained / "log.txt").read_text())


def test_two_commands_that_make_one_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "PATIENCE", 0.1)
    with files.complete_folder(tmp_path / "data", {"by": "the first"}):
        refused = pytest.raises(UserError, match=r"another command is making .*data; wait")
        with refused, files.complete_folder(tmp_path / "data", {"by": "the second"}):
            pass
    assert "the first" in (tmp_path / "data/report.json").read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


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
