"""Whether files of others may run code (data_only.py): the option --trust, of one command and all
that it starts."""

import os

VARIABLE = "OCP_PHYSMOL_TRUST"  # in the environment, which ranks, data loaders and jobs inherit
HELP = "Let files run code: LMDBs and checkpoints of people whom you trust."
CURE = "if you trust whoever made it, give --trust (or set OCP_PHYSMOL_TRUST=1)"


def trusted() -> bool:
    """Whether the user has said that files may run code."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def allow_code() -> None:
    """From here on, in this process and those that it starts, files may run code."""
    os.environ[VARIABLE] = "1"
