"""The process of one ASE calculator: python worker.py MODULE:NAME OPTIONS DESCRIPTOR [FOLDER]

It answers the structures that come through a connection with energies and forces. It is run as a
file, so that nothing of ours is imported: tblite fails where torch has brought its OpenMP before.
"""

import importlib
import json
import signal
import sys
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator


def load(place: str, options: dict[str, Any]) -> Calculator:
    """What MODULE:NAME, a class or a function, returns for the options."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)(**options)


def energy_and_forces(calculator: Calculator, structure: dict) -> tuple[float, np.ndarray] | str:
    """eV and [n, 3] eV/Angstrom; the reason, if the calculator refuses the structure."""
    try:
        atoms = Atoms(**structure)
        if hasattr(calculator, "reset"):
            calculator.reset()
        atoms.calc = calculator
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    except Exception as e:  # each calculator has errors of its own
        return " ".join(str(e).split()) or type(e).__name__
    finite = np.isfinite(energy) and np.isfinite(forces).all()
    return (float(energy), forces) if finite else "its energy or forces are not finite"


def reasons(error: BaseException | None) -> str:
    """An error, and what it came from."""
    found = []
    while error is not None:
        found.append(f"{type(error).__name__}: {error}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "; ".join(found)


def main(place: str, options: str, descriptor: str, *folders: str) -> None:
    sys.path += folders  # of modules that are not installed, and stand in nobody's way
    connection = Connection(int(descriptor))
    try:
        calculator = load(place, json.loads(options))
    except Exception as e:  # sent to who asked
        connection.send(reasons(e))
        return
    connection.send(None)
    while True:
        connection.send(energy_and_forces(calculator, connection.recv()))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # who asks decides when to end
    try:
        main(*sys.argv[1:])
    except (EOFError, OSError):
        sys.exit(1)  # the process that asked has ended
