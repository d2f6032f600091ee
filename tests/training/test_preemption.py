"""A warning waits until it can be obeyed."""

import os
import signal

from ocp_physmol.training.preemption import DeferredSignal, warning_signal


def test_a_warning_is_delivered_once_when_asked_for():
    calls = []
    before = signal.signal(signal.SIGUSR2, lambda *call: calls.append(call))
    try:
        with DeferredSignal(signal.SIGUSR2) as deferred:
            deferred.deliver()
            os.kill(os.getpid(), signal.SIGUSR2)
            assert calls == [] and deferred.received
            deferred.deliver()
            deferred.deliver()
            assert len(calls) == 1 and calls[0][0] == signal.SIGUSR2
        os.kill(os.getpid(), signal.SIGUSR2)  # afterwards as before
        assert len(calls) == 2
    finally:
        signal.signal(signal.SIGUSR2, before)


def test_nothing_changes_where_nobody_handles_warnings():
    assert warning_signal() == signal.SIGUSR2
    before = signal.getsignal(signal.SIGUSR2)
    with DeferredSignal(signal.SIGUSR2) as deferred:
        assert signal.getsignal(signal.SIGUSR2) == before
        assert not deferred.received
