"""ASE calculators on all cores."""

import json
import os
import pickle
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, cycle, islice
from multiprocessing.connection import Pipe
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from ocp_physmol.cores import threads
from ocp_physmol.errors import UserError

WORKER = Path(__file__).with_name("worker.py")
AHEAD = 2  # structures that a process has got: the next one is there when an answer is given
SHORT = 50_000  # bytes of a structure; with longer ones, both ends of a pipe could wait to write


@dataclass(frozen=True)
class Source:
    """Where a calculator comes from: a class or function MODULE:NAME, and its arguments."""

    place: str
    options: dict[str, Any] = field(default_factory=dict)
    needs: str = ""  # what pip installs for it

    @classmethod
    def named(cls, name: str) -> "Source":
        """One of KNOWN, or MODULE:NAME of any ASE calculator that needs no arguments."""
        if name in KNOWN:
            return KNOWN[name]
        module, colon, function = name.partition(":")
        if not (module and colon and function.isidentifier()):
            known = ", ".join(KNOWN)
            raise UserError(
                f"'{name}' is no calculator; give one of {known}, or MODULE:NAME of one of ASE's"
            )
        return cls(name)


# without its cache, an energy depends on no structure before; it is as fast
GFN2 = {"method": "GFN2-xTB", "verbosity": 0, "cache_api": False}
KNOWN = {
    "gfn2": Source("tblite.ase:TBLite", GFN2, "tblite"),
    "mmff94": Source("mmff94:MMFF94"),  # the files beside this one
    "ani1x": Source("ani1x:ANI1x", needs="torchani==2.2.4 'setuptools<81'"),
}


class Refusal(str):
    """Why a calculator gave no energy for a structure."""


Answer = tuple[float, np.ndarray] | Refusal  # eV, [n, 3] eV/Angstrom


class Worker:
    """A process with a calculator, which answers one structure after the other."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.connection, theirs = Pipe()
        descriptor, options = theirs.fileno(), json.dumps(source.options)
        self.folder = TemporaryDirectory()  # calculators that write files do not meet
        own = [] if source in KNOWN.values() else [os.getcwd()]  # modules of the user
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # a process for each core instead
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), source.place, options, str(descriptor), *own],
            pass_fds=[descriptor],
            env=environment,
            cwd=self.folder.name,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # signals of a terminal or of SLURM are not for it
        )
        theirs.close()

    def require_started(self) -> None:
        """Wait until the calculator is loaded; a UserError says why it is not."""
        if problem := self._talk(self.connection.recv):
            cure = "correct the name" if "AttributeError" in problem else "install its package"
            cure = f"pip install {self.source.needs}" if self.source.needs else cure
            raise UserError(f"{self.source.place} cannot be loaded ({problem}); {cure}")

    def send(self, structure: dict) -> None:
        self._talk(self.connection.send, structure)

    def receive(self) -> Answer:
        answer = self._talk(self.connection.recv)
        return Refusal(answer) if isinstance(answer, str) else answer

    def _talk(self, function: Callable, *arguments: object) -> Any:
        try:
            return function(*arguments)
        except (EOFError, OSError) as e:
            raise UserError(
                f"the process of {self.source.place} has ended with status {self.process.wait()}; "
                "what it wrote stands above"
            ) from e

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()


class CalculatorPool:
    """Processes that each have a calculator. They start when they are needed.

    They end with `close`, with a `with` statement, or with this process. A process that was forked
    from this one starts its own.
    """

    def __init__(self, source: Source, processes: int | None = None) -> None:
        self.source = source
        self.processes = processes or threads(int(os.environ.get("LOCAL_WORLD_SIZE", 1)))
        self._owner = os.getpid()
        self._workers: list[Worker] = []
        self._answers: dict[bytes, Answer] = {}  # of the last call

    def evaluate(self, structures: Iterable[dict]) -> Iterator[Answer]:
        """The answer to each structure, in their order.

        What was among the structures of the call before is not computed again: in relaxations of
        many molecules most do not move any more.

        Args:
            structures: arguments of `ase.Atoms`: numbers [n], positions [n, 3] (Angstrom), and of
                periodic ones cell [3, 3] and pbc.

        Raises:
            UserError: if the calculator cannot be loaded, or a process dies.
        """
        structures = iter(structures)
        first = list(islice(structures, self.processes))
        self._start(len(first))
        before, self._answers = self._answers, {}
        asked: deque[tuple[bytes, Worker | None]] = deque()  # no worker: answered before
        finished = False
        try:
            turns, busy = cycle(self._workers), 0
            for structure in chain(first, structures):
                key, worker = pickle.dumps(structure), None
                if key not in before:
                    ahead = AHEAD if len(key) < SHORT else 1
                    while busy >= ahead * len(self._workers):
                        busy -= asked[0][1] is not None
                        yield self._next(asked, before)
                    worker, busy = next(turns), busy + 1
                    worker.send(structure)
                asked.append((key, worker))
            while asked:
                answer = self._next(asked, before)
                finished = not asked
                yield answer
            finished = True
        finally:
            if not finished:  # answers on their way are nobody's, and a dead process answers none
                self.close()

    def require_loadable(self) -> None:
        """Start a process; a UserError if the calculator cannot be loaded."""
        self._start(1)

    def _next(self, asked: deque, before: dict[bytes, Answer]) -> Answer:
        key, worker = asked.popleft()
        self._answers[key] = before[key] if worker is None else worker.receive()
        return self._answers[key]

    def _start(self, count: int) -> None:
        """Have that many processes at least."""
        if self._owner != os.getpid():
            self._inherited = self._workers  # kept, for their folders are the other process' own
            self._owner, self._workers, self._answers = os.getpid(), [], {}
        there = len(self._workers)
        try:
            self._workers += [Worker(self.source) for _ in range(count - there)]
            for worker in self._workers[there:]:
                worker.require_started()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all processes, if they are this process' own."""
        workers, self._workers = self._workers, []
        for worker in workers if self._owner == os.getpid() else ():
            worker.close()

    def __enter__(self) -> "CalculatorPool":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()
