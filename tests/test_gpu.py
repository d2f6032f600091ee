"""On a GPU everything is what it is on the processor: pytest -m gpu"""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import losses_by_step, small_model, to_batch, train

from ocp_physmol.experiments.launch import LAST
from ocp_physmol.relaxation.batched import Descent, relax
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]
GPU = "cuda"


def losses(device: str, config: str, data: Path, folder: Path, *more: str) -> dict[int, float]:
    """The losses of a small training, by step."""
    smaller = ["--model.attention_channels=8", "--optim.max_epochs=1"]
    result = train(data, folder, *smaller, *more, config=config, device=device)
    assert result.returncode == 0, result.stdout[-3000:]
    return losses_by_step(result.stdout)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_energies_and_forces(variant, structures, dtype):
    model, batch = small_model(**variant), to_batch(*structures)
    by_formula = batch.clone()  # as on a GPU, not by filters on knots
    by_formula.pos.requires_grad_()
    expected = model(by_formula)
    on_gpu = batch.to(GPU)
    on_gpu.pos, on_gpu.cell = on_gpu.pos.to(dtype), on_gpu.cell.to(dtype)
    found = model.to(GPU, dtype)(on_gpu)
    close = 1e-8 if dtype == torch.float64 else 1e-3
    for name, value in expected.items():
        assert found[name].device.type == GPU
        torch.testing.assert_close(found[name].double().cpu(), value, rtol=close, atol=close)


@pytest.mark.parametrize("config", ["quickstart", "recommended", "taught", "on_gfn2_frequencies"])
def test_losses(config, labelled_folder, tmp_path):
    more = ["--model.vector_channels=8"] if config != "quickstart" else []
    expected, found = (
        losses(device, config, labelled_folder, tmp_path / folder, *more)
        for folder, device in {"here": "cpu", "there": GPU}.items()
    )
    assert len(found) == 8
    assert [found[k] for k in (1, 2)] == pytest.approx([expected[k] for k in (1, 2)], rel=0.02)
    assert found == pytest.approx(expected, rel=0.3)  # SOAP's bases are not unique at first


def test_mixed_precision(qm9_folder, tmp_path):
    found = losses(GPU, "quickstart", qm9_folder, tmp_path, "--amp")
    assert len(found) == 8
    assert np.isfinite(list(found.values())).all()


def test_goes_on_and_opens_on_a_processor(qm9_folder, tmp_path):
    losses(GPU, "quickstart", qm9_folder, tmp_path)
    assert min(losses(GPU, "quickstart", qm9_folder, tmp_path, "--optim.max_epochs=2")) == 9
    structures = list(open_labelled(qm9_folder / "test"))
    starts = [structure.pos.numpy() for structure in structures]
    here, there = (
        relax(Predictor.open(tmp_path / LAST, cpu), structures, starts, Descent(steps=5))
        for cpu in (True, False)
    )
    for one, two in zip(here, there):
        np.testing.assert_allclose(one.positions, two.positions, atol=1e-3)
