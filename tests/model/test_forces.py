"""A force loss trains the parameters as its exact gradient would."""

from itertools import compress

import pytest
import torch
from ase.build import molecule
from conftest import slab, small_model, to_batch

from ocp_physmol.model.copies import Copy
from ocp_physmol.model.physmol import PhysMol

LOSSES = {
    "zero force": lambda out: out["forces"].square().sum(-1).mean(),
    "norm of the error": lambda out: (out["forces"] - 0.1).norm(dim=-1).mean(),
    "energy and forces": lambda out: out["energy"].abs().mean() + out["forces"].square().mean(),
    "energy": lambda out: out["energy"].square().sum(),
}


def gradient(model, batch, loss, exact: bool, monkeypatch) -> list[torch.Tensor]:
    monkeypatch.setattr(PhysMol, "_must_be_exact", lambda self, pos: exact)
    model.zero_grad()
    loss(model(batch)).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]


def relative_error(found, expected) -> float:
    """The largest of any parameter, where it is not small beside the whole gradient."""
    whole = torch.cat([e.flatten() for e in expected]).norm()
    return max(float((f - e).norm() / (e.norm() + 1e-5 * whole)) for f, e in zip(found, expected))


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
    found = [f.double() for f in gradient(model.float(), batch, loss, False, monkeypatch)]
    whole = torch.cat([e.flatten() for e in expected]).norm()
    felt = [bool(e.norm() > 1e-12 * whole) for e in expected]  # no force by the energies' bias
    assert relative_error([*compress(found, felt)], [*compress(expected, felt)]) < 5e-3
    assert all(float(f.norm() / whole) < 1e-6 for f, on in zip(found, felt) if not on)


def test_no_force_loss_no_displacement():
    """Where no loss looks at forces, the gradient is that of the energies at the positions."""
    model = small_model().train()
    batch = to_batch(molecule("CH3CH2OH"))
    model(batch)["energy"].sum().backward()
    found = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model(batch, outputs=["energy"])["energy"].sum().backward()
    for grad, p in zip(found, (p for p in model.parameters() if p.grad is not None)):
        torch.testing.assert_close(grad, p.grad, rtol=1e-9, atol=1e-12)


def test_a_second_derivative_is_refused():
    model = small_model().train()
    out = model(to_batch(molecule("H2O")))
    loss = out["energy"].square().sum() + out["forces"].square().sum()
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(loss, list(model.energy.readout.parameters()), create_graph=True)


def test_parameters_put_in_their_place_for_one_call():
    """As torch.func and everything built on it does."""
    model = small_model().train()
    batch = to_batch(molecule("CH3CH2OH"))
    model(batch)["forces"].square().sum().backward()
    replaced = {n: p.detach().clone().requires_grad_() for n, p in model.named_parameters()}
    out = torch.func.functional_call(model, replaced, (batch,))
    out["forces"].square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(replaced[name].grad, parameter.grad)


def test_hooks_on_parameters_run_once():
    model = small_model().train()
    batch = to_batch(molecule("CH3CH2OH"))
    model(batch)["forces"].square().sum().backward()
    once = model.energy.embedding.combine.weight.grad.clone()
    model.zero_grad()
    model.energy.embedding.combine.weight.register_hook(lambda g: 2 * g)
    model(batch)["forces"].square().sum().backward()
    torch.testing.assert_close(model.energy.embedding.combine.weight.grad, 2 * once)


def test_frozen_parameters():
    model = small_model(use_masking=True).train()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("classifier"))
    batch = to_batch(molecule("CH3CH2OH"))
    masked = torch.arange(len(batch.pos)) < 3
    out = model(batch, copies=[Copy("hidden", ("masked_logits",), masked=masked)])
    logits = out["hidden"]["masked_logits"]
    (out["energy"].sum() + out["forces"].sum() + logits.sum()).backward()
    assert model.classifier[0].weight.grad.abs().max() > 0


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_a_gradient_that_is_no_number_stays_one(scale):
    model = small_model().train()
    (scale * model(to_batch(molecule("H2O")))["forces"].sum()).backward()
    assert torch.isnan(model.energy.embedding.combine.weight.grad).any()


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


def test_tracked_positions_and_others_agree():
    """The formulas themselves, and filters on knots."""
    model = small_model(num_rbf=32, hidden_channels=32)
    batch = to_batch(molecule("CH3CH2OH"), slab(), molecule("H2O"))
    knots = model(batch)
    batch.pos.requires_grad_()
    exact = model(batch)
    for name in ("energy", "forces"):
        error = (knots[name] - exact[name]).abs().max()
        assert error < 1e-3 * exact[name].abs().max()
