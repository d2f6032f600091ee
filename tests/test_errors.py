"""What a user can mend ends in one sentence; a bug keeps its traceback."""

import errno
import os
import signal
import subprocess
import sys

import pytest
import torch

from ocp_physmol.errors import UserError, exit_on_user_error, naming


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (UserError("file x has no y; add it"), "file x has no y; add it"),
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "data/x.lmdb"),
            "data/x.lmdb: no space left on device; make room, and start the same command again",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), "a: no such file; correct the path"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "too many open files; allow more open files",
        ),
        (
            RuntimeError("[enforce fail at device.cc:184] rv != -1. -1 vs -1. Too many open files"),
            "too many open files; allow more open files",
        ),
        (
            RuntimeError("[enforce fail at inline_container.cc:603] . unexpected pos 64 vs 0"),
            "a checkpoint cannot be written; make room",
        ),
        (MemoryError(), "there is not enough memory; choose smaller batches or a smaller model"),
        (
            torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
            "there is not enough memory",
        ),
    ],
)
def test_one_sentence(error, sentence, capsys):
    with pytest.raises(SystemExit) as stop, exit_on_user_error():
        raise error
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {sentence}")


def test_a_full_disk_has_a_name(capsys):
    with pytest.raises(SystemExit), exit_on_user_error(), naming("runs/mine"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    said = capsys.readouterr().err
    assert said.startswith("error: runs/mine: no space left on device; make room")


def test_an_interruption(capsys):
    before = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(SystemExit) as stop, exit_on_user_error():
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.value.code == 130
    assert capsys.readouterr().err == "error: interrupted; files that are complete stay\n"


def test_memory_that_torch_does_not_get(capsys):
    with pytest.raises(SystemExit), exit_on_user_error():
        torch.empty(10**14)
    assert "not enough memory (400000000000000 bytes were asked for)" in capsys.readouterr().err


@pytest.mark.parametrize("error", [TypeError("a bug"), RuntimeError("a bug"), OSError("a bug")])
def test_a_bug_is_raised(error):
    with pytest.raises(type(error), match="a bug"), exit_on_user_error():
        raise error


def test_a_reader_that_leaves():
    code = (
        "from ocp_physmol.errors import exit_on_user_error\n"
        "with exit_on_user_error():\n"
        "    while True: print('a line of a long table', flush=True)"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""
