"""Signals that wait for the end of a training step; the trainer asks for them before each step.

SLURM's warning of a preemption or of the time limit may come in the middle of an optimiser step, or
while a validation uses the averaged weights. A checkpoint written then would belong to no step.
"""

import signal
import threading
from typing import Any

from submitit import JobEnvironment


def warning_signal() -> int:
    """The signal that warns submitit: SIGUSR2, or the one in $SUBMITIT_PREEMPT_SIGNAL."""
    return getattr(signal, f"SIG{JobEnvironment.USR_SIG}")


class DeferredSignal:
    """While entered, the signal is noted; its former handler runs when `deliver` is called."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.handler: Any = None  # the former one
        self.received: tuple | None = None  # arguments of the call that waits

    def __enter__(self) -> "DeferredSignal":
        handler = signal.getsignal(self.signum)
        if callable(handler) and threading.current_thread() is threading.main_thread():
            self.handler = handler
            signal.signal(self.signum, self._note)
        return self

    def __exit__(self, *error) -> None:
        if self.handler is not None:
            signal.signal(self.signum, self.handler)

    def _note(self, *call) -> None:
        self.received = call

    def deliver(self) -> None:
        """Run the handler, if the signal has come."""
        call, self.received = self.received, None
        if call is not None:
            self.handler(*call)
