"""What fairchem and its libraries print beside what a user can act on."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from ocp_physmol.errors import UNWRITABLE


@contextmanager
def without_fairchems_warnings() -> Iterator[None]:
    """Hide torch's warnings of how fairchem loads its own files."""
    with warnings.catch_warnings(), _without_tensorboards_traceback():
        warnings.filterwarnings("ignore", category=FutureWarning, module="fairchem")
        yield


@contextmanager
def _without_tensorboards_traceback() -> Iterator[None]:
    """TensorBoard writes in a thread, and the main thread gets its error of a full disk, too."""
    before = threading.excepthook

    def hook(thrown: threading.ExceptHookArgs) -> None:
        if getattr(thrown.exc_value, "errno", None) not in UNWRITABLE:
            before(thrown)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before
