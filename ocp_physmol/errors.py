"""Errors that a user can mend."""

import difflib
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

EXIT_STATUS = 2  # of a command that has explained what is wrong with its input


class UserError(ValueError):
    """Wrong input. The message is one sentence that names the file, the key and the cure."""


@contextmanager
def exit_on_user_error() -> Iterator[None]:
    """Print a UserError as its one sentence and exit; decorates commands: @exit_on_user_error()."""
    try:
        yield
    except UserError as e:
        print(f"error: {e}", file=sys.stderr, flush=True)
        sys.exit(EXIT_STATUS)


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
