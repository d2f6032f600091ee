"""Errors that a user can mend."""

import difflib
import errno
import os
import re
import signal
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import NoReturn

from tqdm import tqdm

CURES = {  # of what the system says
    errno.ENOSPC: "make room, and start the same command again",
    errno.EDQUOT: "make room, and start the same command again",
    errno.EFBIG: "allow larger files (ulimit -f)",
    errno.EROFS: "choose another place",
    errno.EMFILE: "allow more open files (ulimit -n)",
    errno.ENFILE: "close other programs",
    errno.ENAMETOOLONG: "choose a shorter name",
}
UNWRITABLE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
EXIT_STATUS = 2  # of a command that has explained what is wrong with its input


class UserError(ValueError):
    """Wrong input. The message is one sentence that names the file, the key and the cure."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print a UserError, or what the system refuses, as one sentence and exit.

    Decorates commands: @exit_on_user_error().
    """
    try:
        yield
    except UserError as e:
        _exit(str(e))
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # a second one ends without a traceback
        _exit("interrupted; files that are complete stay", status=128 + signal.SIGINT)
    except BrokenPipeError:  # as in `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as e:
        if e.strerror is None:
            raise
        where = f"{str(e.filename)[:200]}: " if e.filename else ""
        cure = CURES.get(e.errno or 0, "correct the path or its permissions")
        _exit(f"{where}{e.strerror.lower()}; {cure}")
    except (MemoryError, RuntimeError) as e:
        if cannot_write(e):
            _exit(f"a checkpoint cannot be written; {CURES[errno.ENOSPC]}")
        if (said := os.strerror(errno.EMFILE)) in str(e):  # of gloo
            _exit(f"{said.lower()}; {CURES[errno.EMFILE]}")
        if not lacks_memory(e):
            raise
        asked = re.search(r"tried to allocate (\S+ \w+)", str(e))
        wanted = f" ({asked[1]} were asked for)" if asked else ""
        _exit(f"there is not enough memory{wanted}; choose smaller batches or a smaller model")


def _exit(sentence: str, status: int = EXIT_STATUS) -> NoReturn:
    tqdm.write(f"error: {sentence}", file=sys.stderr)  # on a line of its own, beside a bar
    sys.stderr.flush()
    sys.exit(status)


@contextmanager
def naming(folder: str) -> Iterator[None]:
    """Name the folder in what the system refuses to write, where it names no file itself."""
    try:
        yield
    except OSError as e:
        if e.errno in UNWRITABLE and e.filename is None:
            e.filename = folder
        raise


def cannot_write(error: Exception) -> bool:
    """Whether an error is torch's of a file that it cannot write; it does not say why."""
    return isinstance(error, RuntimeError) and "inline_container" in str(error)


def lacks_memory(error: Exception) -> bool:
    """Whether an error is Python's, torch's or CUDA's want of memory."""
    return isinstance(error, MemoryError) or bool(
        re.search(
            r"can't allocate memory|Cannot allocate memory|out of memory|Storage size calculation",
            str(error),
        )
    )


@contextmanager
def blame(where: str, *kinds: type[Exception]) -> Iterator[None]:
    """Turn errors of these kinds into a UserError: where the mistake is, and the error's text."""
    try:
        yield
    except kinds as e:
        problem = f"{e} is missing" if isinstance(e, KeyError) else str(e)
        raise UserError(f"{where}: {' '.join(problem.split())}") from e


def did_you_mean(name: object, known: Collection[str]) -> str:
    """The cure for an unknown name: the known one that is most like it, or all of them."""
    close = difflib.get_close_matches(str(name), known, n=1)
    return f"did you mean '{close[0]}'?" if close else "known are " + ", ".join(sorted(known))
