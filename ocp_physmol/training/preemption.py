"""Signals that wait for the end of a training step.

SLURM's warning of a preemption or of the time limit may come in the middle of an optimiser step, or
while the averaged weights are in place for a validation. A checkpoint written then would be neither
the step before nor the step after.
"""

import signal
import threading
from typing import Any

from submitit import JobEnvironment


def warning_signal() -> int:
    """What submitit takes for a warning: SIGUSR2, or what $SUBMITIT_PREEMPT_SIGNAL says."""
    return getattr(signal, f"SIG{JobEnvironment.USR_SIG}")


class DeferredSignal:
    """While entered, the signal is noted; its former handler runs when `deliver` is called."""

    def __init__(self, signum: int) -> None:
        self.signum = signum
        self.handler: Any = None
        self.received: tuple | None = None

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
        """Run the handler for a signal that has come."""
        call, self.received = self.received, None
        if call is not None:
            self.handler(*call)
