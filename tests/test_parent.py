"""What a command has started ends with it; a command does not end with its shell."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import REPOSITORY, small_run, wait_for

from ocp_physmol import parent


def runs(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("early", [True, False])
def test_ends_with_its_parent(early, tmp_path):
    """Also if the parent is gone before it is watched."""
    place = tmp_path / "pid"
    first = os.fork()
    if first == 0:
        own = os.getpid()
        if os.fork() == 0:
            if early:
                wait_for(lambda: os.getppid() != own)
            place.write_text(str(os.getpid()))
            parent.end_with(own)
            time.sleep(60)
        elif not early:
            wait_for(lambda: place.is_file() and place.read_text())
            time.sleep(1)
        os._exit(0)
    os.waitpid(first, 0)
    wait_for(lambda: place.is_file() and place.read_text() and not runs(int(place.read_text())), 20)


@pytest.mark.slow
def test_a_training_goes_on_when_its_shell_has_ended(qm9_folder, tmp_path):
    command = [
        sys.executable, "main.py", "--mode", "train", "--config-yml", "configs/qm9/quickstart.yml",
        "--cpu", "--run-dir", tmp_path, "--timestamp-id", "run", *small_run(qm9_folder),
    ]  # fmt: skip
    (tmp_path / "log.txt").touch()
    line = f"{shlex.join(map(str, command))} > {tmp_path}/log.txt 2>&1 &"
    subprocess.run(["sh", "-c", line], cwd=REPOSITORY, check=True)
    wait_for(lambda: "Total time taken" in (tmp_path / "log.txt").read_text())
    assert (tmp_path / "checkpoints/run/checkpoint.pt").is_file()
