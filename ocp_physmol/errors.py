"""Errors that a user can mend."""

import difflib
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

EXIT_STATUS = 2  # of a command that has explained what is wrong with its input


class UserError(ValueError):
    """Wrong input. The message is one sentence that names the file, the key and the cure."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print a UserError, or a lack of memory, as one sentence and exit.

    Decorates commands: @exit_on_user_error().
    """
    try:
        yield
    except (UserError, MemoryError, RuntimeError) as e:
        if not isinstance(e, UserError) and not lacks_memory(e):
            raise
        print(f"error: {_sentence(e)}", file=sys.stderr, flush=True)
        sys.exit(EXIT_STATUS)


def lacks_memory(error: Exception) -> bool:
    """Whether an error is Python's, torch's or CUDA's want of memory."""
    return isinstance(error, MemoryError) or bool(
        re.search(r"can't allocate memory|out of memory|Storage size calculation over", str(error))
    )


def _sentence(error: Exception) -> str:
    if isinstance(error, UserError):
        return str(error)
    asked = re.search(r"tried to allocate (\S+ \w+)", str(error))
    wanted = f" ({asked[1]} were asked for)" if asked else ""
    return f"there is not enough memory{wanted}; choose smaller batches or a smaller model"


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
