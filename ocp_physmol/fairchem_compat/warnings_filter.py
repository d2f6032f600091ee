"""Warnings that fairchem causes and that no user can act on."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_fairchems_warnings() -> Iterator[None]:
    """Hide torch's warnings of how fairchem loads its own files."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning, module="fairchem")
        yield
