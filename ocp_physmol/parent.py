"""Processes that end with the one that started them, even by SIGKILL.

A training would otherwise go on, and be in the way of the one that takes over its folder.
"""

import os
import threading
import time

ASKED = "OCP_PHYSMOL_END_WITH"  # in the environment of a command: the process that starts it


def end_with(parent: int) -> None:
    """End this process when `parent`, its own, is gone; at once, if it is gone already."""
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def end_with_parent_if_asked() -> None:
    """The same where the parent has set ASKED; what this process starts is not asked."""
    if parent := os.environ.pop(ASKED, None):
        end_with(int(parent))


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
