"""A force loss trains the parameters as its exact gradient would."""

from __future__ import annotations

import pytest
import torch
from ase.build import molecule

from ocp_physmol.model import physmol
from tests.conftest import slab, small_model, to_batch

LOSSES = {
    "zero force": lambda out: out["forces"].square().sum(-1).mean(),
    "norm of the error": lambda out: (out["forces"] - 0.1).norm(dim=-1).mean(),
    "energy and forces": lambda out: out["energy"].abs().mean() + out["forces"].square().mean(),
    "energy": lambda out: out["energy"].square().sum(),
}


def gradient(model, batch, loss, exact: bool, monkeypatch) -> torch.Tensor:
    monkeypatch.setattr(physmol, "_needs_exact", lambda pos: exact)
    model.zero_grad()
    loss(model(batch)).backward()
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
    return torch.cat([g.flatten() for g in grads])


def relative_error(found, expected) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_gradient_of_a_loss(loss, variant, monkeypatch):
    model = small_model(num_rbf=16, **variant).train()
    batch = to_batch(molecule("CH3CH2OH"), slab(), molecule("H2O"), molecule("CH4")[:1])
    expected = gradient(model, batch, loss, True, monkeypatch)
    found = gradient(model, batch, loss, False, monkeypatch)
    assert relative_error(found, expected) < 5e-3


@pytest.mark.parametrize("loss", LOSSES.values(), ids=list(LOSSES))
def test_rounding_to_single_precision_costs_little(loss, monkeypatch):
    batch = to_batch(molecule("CH3CH2OH"), slab(), molecule("H2O"))
    model = small_model(num_rbf=16).train()
    expected = gradient(model, batch, loss, False, monkeypatch)
    batch.pos, batch.cell = batch.pos.float(), batch.cell.float()
    found = gradient(model.float(), batch, loss, False, monkeypatch)
    assert relative_error(found.double(), expected) < 5e-3


def test_no_force_loss_no_displacement():
    """Where no loss looks at forces, the gradient is that of the energies at the positions."""
    model = small_model().train()
    batch = to_batch(molecule("CH3CH2OH"))
    model(batch)["energy"].sum().backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.regress_forces = False
    model(batch)["energy"].sum().backward()
    for grad, p in zip(found, (p for p in model.parameters() if p.grad is not None)):
        torch.testing.assert_close(grad, p.grad, rtol=1e-9, atol=1e-12)


def test_whoever_tracks_the_positions_may_differentiate_twice():
    model = small_model(num_rbf=16)
    batch = to_batch(molecule("H2O"))
    batch.pos.requires_grad_()
    forces = model(batch)["forces"].flatten()
    hessian = torch.stack(
        [-torch.autograd.grad(f, batch.pos, retain_graph=True)[0].flatten() for f in forces]
    )
    assert hessian.abs().max() > 0.01
    torch.testing.assert_close(hessian, hessian.T, rtol=1e-9, atol=1e-9)


def test_tracked_positions_and_plain_ones_agree():
    """The plain formulation and filters on knots."""
    model = small_model(num_rbf=32, hidden_channels=32)
    batch = to_batch(molecule("CH3CH2OH"), slab(), molecule("H2O"))
    knots = model(batch)
    batch.pos.requires_grad_()
    plain = model(batch)
    for name in ("energy", "forces"):
        error = (knots[name] - plain[name]).abs().max()
        assert error < 1e-3 * plain[name].abs().max()
