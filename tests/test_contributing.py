"""What CONTRIBUTING.md promises: a loss is one short file, which trains any model on any ranks."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import molecule
from conftest import REPOSITORY, run_main, small_run, to_batch

EXAMPLE = "docs/examples/uphill.py"
CONFIG = """
includes: [{base}]
loss_functions:
  - energy: {{fn: mae, coefficient: 1.0}}
  - uphill: {{fn: docs.examples.uphill.Uphill, coefficient: 10.0, noise: 0.02}}
"""


def test_the_example_is_short():
    assert len((REPOSITORY / EXAMPLE).read_text().splitlines()) <= 30
    assert EXAMPLE in (REPOSITORY / "CONTRIBUTING.md").read_text()


def test_only_forces_away_from_the_minimum_cost(monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY))
    from docs.examples.uphill import Uphill

    term = Uphill(Uphill.Options(fn="docs.examples.uphill.Uphill", coefficient=1.0))
    batch = to_batch(molecule("H2O"), molecule("CH4"))
    copy = term.copy(batch, [np.random.default_rng(seed) for seed in range(2)])
    displacement = copy.pos - batch.pos
    work = displacement.square().sum(-1)
    expected = {1: torch.stack([work[:3].sum(), work[3:].sum()]), -1: torch.zeros(2).double()}
    for sign, value in expected.items():
        out = {"uphill": {"forces": sign * displacement}}
        loss = term(*term.compare(out, batch, copy), batch.natoms)
        torch.testing.assert_close(loss, value)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["quickstart", "schnet"])
def test_the_example_trains_on_one_rank_and_on_two(model, qm9_folder, tmp_path):
    """PhysMol, and a model of fairchem's; two ranks take the steps of one."""
    config = tmp_path / "uphill.yml"
    config.write_text(CONFIG.format(base=REPOSITORY / f"configs/qm9/{model}.yml"))
    logs, weights = {}, {}
    for ranks in (1, 2):
        logs[ranks], weights[ranks] = _trained(config, ranks, qm9_folder, tmp_path / str(ranks))
        assert len(logs[ranks]) == 16  # two epochs of 32 molecules, 4 a step
    assert max(logs[1]) > 0
    for name, one in weights[1].items():
        torch.testing.assert_close(weights[2][name], one, rtol=1e-3, atol=1e-4)


def _trained(config: Path, ranks: int, data: Path, folder: Path) -> tuple[list[float], dict]:
    """The new loss at each step, and the weights at the end."""
    options = [o for o in small_run(data) if not o.startswith("--model")]
    result = run_main(
        "--mode", "train", "--config-yml", config, "--cpu", "--run-dir", folder,
        "--timestamp-id", "run", "--print-every", 1, *options,
        "--num-gpus", ranks, f"--optim.batch_size={4 // ranks}",
        "--optim.optimizer=SGD",  # its steps are the gradients, to scale
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
    state = torch.load(folder / "checkpoints/run/checkpoint.pt", weights_only=True)["state_dict"]
    losses = [float(x) for x in re.findall(r"uphill_loss: ([\d.e+-]+)", result.stdout)]
    return losses, {name.removeprefix("module."): value for name, value in state.items()}
