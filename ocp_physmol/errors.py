"""Errors that a user can mend."""

from __future__ import annotations

import functools
import sys

EXIT_STATUS = 2  # of a command that has explained what is wrong with its input


class UserError(ValueError):
    """Wrong input. The message is one sentence that names the file, the key and the cure."""


def exit_on_user_error(main):
    """Make a command line print a UserError as its one sentence and exit."""

    @functools.wraps(main)
    def wrapped(*args, **kwargs):
        try:
            return main(*args, **kwargs)
        except UserError as e:
            print(f"error: {e}", file=sys.stderr, flush=True)
            sys.exit(EXIT_STATUS)

    return wrapped
