"""Processes that end with the one that started them, even by SIGKILL.

A training would otherwise go on, and be in the way of the one that takes over its folder.
"""

import os
import threading
import time

ASKED = "OCP_PHYSMOL_END_WITH_PARENT"  # in the environment of a command that another one starts


def end_with_parent() -> None:
    """End this process when its parent is gone."""
    threading.Thread(target=_die_with, args=(os.getppid(),), daemon=True).start()


def end_with_parent_if_asked() -> None:
    """The same where the parent has set ASKED; what this process starts is not asked."""
    if os.environ.pop(ASKED, None):
        end_with_parent()


def _die_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
