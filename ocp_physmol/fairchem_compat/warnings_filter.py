"""Warnings that fairchem causes and that no user can act on."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_fairchems_warnings() -> Iterator[None]:
    """Hide torch's warnings of how fairchem loads its own files, and threads' tracebacks.

    TensorBoard writes in a thread, whose error of a full disk the main thread gets, too.
    """
    before = threading.excepthook
    threading.excepthook = lambda thrown: isinstance(thrown.exc_value, OSError) or before(thrown)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=FutureWarning, module="fairchem")
            yield
    finally:
        threading.excepthook = before
