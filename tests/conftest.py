"""Shared by all tests: real molecules and slabs, small models, a temporary QM9 data set."""

import os
import re
import subprocess
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import pytest
import torch
import warm
from ase.build import bulk, fcc111, molecule
from fairchem.core.datasets import data_list_collater
from filelock import FileLock
from torch_geometric.data import Data

from ocp_physmol.__main__ import main
from ocp_physmol.model.physmol import PhysMol

torch.set_num_threads(1)  # small tensors; threads only get into each other's way
os.environ["OMP_NUM_THREADS"] = "1"  # the same for the processes that tests start

REPOSITORY = Path(__file__).parents[1]
SAMPLE_CSV = REPOSITORY / "tests/data/qm9_sample.csv"
SAMPLE_ARCHIVE = REPOSITORY / "tests/data/dsgdb9nsd_sample.xyz.tar.bz2"

VARIANTS = {
    "atom": {"readout": "atom"},
    "atom, cls": {"readout": "atom", "use_cls": True},
    "cls": {"readout": "cls", "use_cls": True},
    "cls, adjacency": {"readout": "cls", "use_cls": True, "use_adjacency": True},
    "physics": {"readout": "physics"},
    "physics, cls": {"readout": "physics", "use_cls": True},
    "physics, adjacency": {"readout": "physics", "use_adjacency": True},
    "atom, vectors": {"readout": "atom", "vector_channels": 4},
    "bonds": {"readout": "bonds"},
    "bonds, cls, repulsion": {"readout": "bonds", "use_cls": True, "repulsion": True},
    "physics, repulsion": {"readout": "physics", "repulsion": True},
    "physics, cls, adjacency, vectors": {
        "readout": "physics",
        "use_cls": True,
        "use_adjacency": True,
        "vector_channels": 8,
    },
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, so that neither process is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def small_model(seed: int = 0, cutoff: float = 4.0, **options) -> PhysMol:
    """A PhysMol in double precision whose weights are random, also those that start at zero."""
    torch.manual_seed(seed)
    sizes = {"hidden_channels": 16, "attention_channels": 8, "num_layers": 2, "num_heads": 4}
    model = PhysMol(**{**sizes, "num_rbf": 8, "cutoff": cutoff, **options}).double().eval()
    for parameter in model.energy.readout.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return model


def to_data(atoms, sid: int = 0) -> Data:
    """An ASE structure in double precision; periodic if its cell is."""
    data = Data(
        pos=torch.tensor(atoms.positions),
        atomic_numbers=torch.tensor(atoms.numbers),
        natoms=len(atoms),
        tags=torch.zeros(len(atoms), dtype=torch.long),
        fixed=torch.zeros(len(atoms), dtype=torch.long),
        sid=sid,
    )
    data.cell = torch.tensor(atoms.cell.array)[None]
    data.pbc = torch.tensor(atoms.pbc)[None]
    return data


def to_batch(*structures):
    """A fairchem batch of ASE structures."""
    data = [to_data(atoms, sid) for sid, atoms in enumerate(structures)]
    return data_list_collater(data, otf_graph=True)


def with_labels(batch, pushes=3):
    """The batch with `pushes` of each molecule, whose labels say which push of which atom."""
    atoms = torch.arange(len(batch.pos), dtype=torch.float64)[:, None, None]
    push = torch.arange(pushes, dtype=torch.float64)[:, None]
    batch.pushed_pos = batch.pos[:, None] + 0.1 * (1 + push) * torch.tensor([1.0, 0, 0]).double()
    batch.restoring_forces = (atoms + 100 * push).expand(-1, -1, 3)
    batch.pushed_own_energy = torch.arange(len(batch.natoms))[:, None] + 100 * push.T
    batch.pushed_own_forces = -batch.restoring_forces
    return batch


def slab():
    """Rattled Cu(111) with a CO on it, in a skewed cell smaller than twice the cutoff."""
    atoms = fcc111("Cu", (2, 2, 2), vacuum=6.0)
    x, y, z = atoms.positions[-1] + [0.3, 0.2, 1.8]
    atoms += molecule("CO", positions=[[x, y, z], [x + 0.1, y, z + 1.15]])
    atoms.rattle(0.1, seed=1)
    return atoms


def tiny_crystal():
    """Primitive aluminium: one atom whose only neighbours are images of itself."""
    return bulk("Al", "fcc", a=4.05)


@pytest.fixture(params=list(VARIANTS), ids=lambda name: name.replace(", ", "+"))
def variant(request) -> dict:
    """Options of the model: every readout, with every switch."""
    return VARIANTS[request.param]


@pytest.fixture
def structures() -> list:
    """A batch of mixed sizes, periodic and not, with a lone atom and one without neighbours."""
    far = molecule("H2")
    far.positions *= 20
    return [molecule("CH3CH2OH"), slab(), molecule("CH4")[:1], far, tiny_crystal()]


# ---- data and runs


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Fills a folder that all of pytest's processes share; what is there is only to be read."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own

    def made(name: str, make: Callable[[Path], None]) -> Path:
        folder, done = shared / "shared" / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                make(folder)
                done.touch()
        return folder

    return made


@pytest.fixture(scope="session")
def qm9_folder(made_once) -> Path:
    """The 40 committed molecules as LMDBs: 32 to train on, 2 for validation, 6 for test."""
    from ocp_physmol.datasets import qm9

    return made_once("qm9", lambda folder: qm9.make(folder, str(SAMPLE_CSV)))


@pytest.fixture(scope="session")
def labelled_folder(made_once, qm9_folder) -> Path:
    """The same with GFN2-xTB's forces on two pushes of each molecule."""
    from ocp_physmol.pushes import curvature

    def make(folder: Path) -> None:
        curvature.make(qm9_folder, folder, pushes=2, frequencies=4)

    return made_once("labelled", make)


@pytest.fixture(scope="session")
def emt_folder(made_once) -> Path:
    """A small EMT set: 8 relaxations to train on, 3 in each of the other splits."""
    from ocp_physmol.datasets import emt

    def make(folder: Path) -> None:
        systems = [s for s in emt.plan(30, seed=0) if s.split != "train" or s.sid < 8]
        emt.write([emt.relax(system) for system in systems], folder, 4, {"entries": {}})

    return made_once("emt", make)


@pytest.fixture(scope="session")
def small_data(made_once) -> dict[str, Path]:
    """Small good files of every kind, by kind."""
    from campaign.data import data_in, make_data

    return data_in(made_once("campaign", make_data))


def small_run(qm9_folder: Path) -> list[str]:
    """Overrides that make quickstart.yml a run of seconds: 8 steps an epoch, a small model."""
    return [
        *(f"--dataset.{split}.src={qm9_folder / split}" for split in ("train", "val", "test")),
        "--model.hidden_channels=16", "--model.num_layers=1", "--model.num_rbf=8",
        "--optim.batch_size=4", "--optim.max_seconds=None", "--optim.scheduler=Null",
        "--optim.max_epochs=2", "--hide_eval_progressbar=True",
    ]  # fmt: skip


def ends(status: int, *arguments) -> None:
    """Call `ocp-physmol ...` in this process, and see with what status it ends."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    assert stop.value.code == status


def run_main(*arguments, timeout: int = 180) -> subprocess.CompletedProcess:
    """`python main.py ...` without the wait for imports; all it prints is in `stdout`."""
    return warm.run(["main.py", *map(str, arguments)], timeout)


def start_main(*arguments) -> BaseProcess:
    """The same, without waiting for its end; what it prints is lost."""
    return warm.start(["main.py", *map(str, arguments)], os.devnull)


def wait_for(condition: Callable[[], bool], seconds: float = 90) -> None:
    """Until the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)


def run_command(
    *arguments, timeout: int = 600, folder: Path = REPOSITORY
) -> subprocess.CompletedProcess:
    """`ocp-physmol ...`, likewise."""
    return warm.run(["-m", "ocp_physmol", *map(str, arguments)], timeout, folder)


@pytest.fixture
def warm_launch(monkeypatch) -> None:
    """The commands that a command started in this process starts do not wait for imports."""
    monkeypatch.setattr("ocp_physmol.experiments.launch.subprocess", warm.STARTED)


def train(
    qm9_folder: Path, run_dir: Path, *more, config: str = "quickstart", device: str = "cpu"
) -> subprocess.CompletedProcess:
    """A small training run into `run_dir`, with checkpoints in `run_dir`/checkpoints/run."""
    chosen = ["--cpu"] if device == "cpu" else []
    return run_main(
        "--mode", "train", "--config-yml", f"configs/qm9/{config}.yml", *chosen, "--run-dir",
        run_dir, "--timestamp-id", "run", "--print-every", "1", *small_run(qm9_folder), *more,
    )  # fmt: skip


STEP_LINE = re.compile(r"loss: (\S+), lr: \S+ epoch: \S+ step: (\S+)")


def losses_by_step(log: str) -> dict[int, float]:
    return {int(float(step)): float(loss.rstrip(",")) for loss, step in STEP_LINE.findall(log)}


@pytest.fixture(scope="session")
def trained(qm9_folder, made_once) -> Path:
    """The folder of a finished small run, with its log.txt."""

    def make(folder: Path) -> None:
        result = train(qm9_folder, folder)
        assert result.returncode == 0, result.stdout[-3000:]
        (folder / "log.txt").write_text(result.stdout)

    return made_once("trained", make)
