"""fairchem's models inside ConservativeModel: derivatives of the energy, and copies."""

import copy
import subprocess
import sys

import pytest
import torch
import torch_sparse
from ase.build import molecule
from conftest import REPOSITORY, losses_by_step, run_main, small_run, to_batch
from fairchem.core.common.utils import setup_imports

from ocp_physmol.errors import UserError
from ocp_physmol.fairchem_compat.conservative import ConservativeModel
from ocp_physmol.model.copies import Copy

setup_imports()

MODELS = {
    "schnet": {"hidden_channels": 16, "num_filters": 16, "num_interactions": 2, "cutoff": 4.0},
    "painn": {"hidden_channels": 16, "num_layers": 2, "num_rbf": 16, "cutoff": 4.0},
    "dimenetplusplus": {
        "hidden_channels": 16, "num_blocks": 2, "int_emb_size": 8, "basis_emb_size": 4,
        "out_emb_channels": 16, "num_spherical": 3, "num_radial": 4, "cutoff": 4.0,
    },
    "gemnet_t": {
        "num_spherical": 3, "num_radial": 8, "num_blocks": 1, "emb_size_atom": 16,
        "emb_size_edge": 16, "emb_size_trip": 8, "emb_size_rbf": 8, "emb_size_cbf": 8,
        "emb_size_bil_trip": 8, "num_before_skip": 1, "num_after_skip": 1, "num_concat": 1,
        "num_atom": 1, "cutoff": 4.0,
    },
}  # fmt: skip


@pytest.fixture(params=MODELS, scope="module")
def untrained(request) -> ConservativeModel:
    """Each model, all of its weights random."""
    compiled = hasattr(torch_sparse, "__file__")
    if request.param in ("dimenetplusplus", "gemnet_t") and not compiled:
        pytest.skip("torch_sparse is not installed (extra: baselines)")
    torch.manual_seed(0)
    model = ConservativeModel({"name": request.param, **MODELS[request.param]})
    for name, parameter in model.named_parameters():
        if "output_blocks" in name and name.endswith("lin.weight"):  # which start at zero
            torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture
def model(untrained) -> ConservativeModel:
    return copy.deepcopy(untrained)  # DimeNet++ takes seconds to build


def boxed(name: str, rattle: float = 0.05):
    atoms = molecule(name, vacuum=8.0, pbc=True)
    atoms.rattle(rattle, seed=1)
    return atoms


def batch_of(*structures):
    batch = to_batch(*structures)
    batch.pos, batch.cell = batch.pos.float(), batch.cell.float()
    return batch


@pytest.fixture
def batch():
    return batch_of(boxed("CH3CH2OH"), boxed("H2O"), boxed("HCN"))


def displaced(batch, chosen, *outputs):
    """A copy of the chosen structures, and all structures displaced as a batch of their own."""
    moved, chosen = batch.clone(), torch.tensor(chosen)
    moved.pos = batch.pos + 0.1 * torch.randn(batch.pos.shape, generator=_generator())
    return Copy("moved", outputs, moved.pos[chosen[batch.batch]], chosen), moved


def _generator():
    return torch.Generator().manual_seed(2)


def test_forces_are_the_derivative_of_the_energy(model, batch):
    """Along themselves, where a central difference of energies is the norm of the forces."""
    model.eval()
    with torch.no_grad():
        forces = model(batch)["forces"]
        norm, energies = forces.norm(), []
        for step in (0.01, -0.01):
            moved = batch.clone()
            moved.pos = batch.pos + step * forces / norm
            energies.append(model(moved)["energy"].double().sum())
    assert norm > 1e-2
    assert float(energies[1] - energies[0]) / 0.02 == pytest.approx(float(norm), rel=1e-2)
    assert not forces.requires_grad


def test_a_force_loss_trains_the_energy(model, batch):
    """The gradient by the weights of a loss on forces, against differences of the loss."""

    def loss():
        return model(batch)["forces"].square().sum()

    parameters = [p for p in model.parameters() if p.requires_grad]
    value = loss()
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    gradients = [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients)]
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    step = 1e-2 * float(value) / float(norm)  # changes the loss by a hundredth
    values = []
    for sign in (1, -2):
        for parameter, gradient in zip(parameters, gradients):
            parameter.data += sign * step * gradient / norm
        values.append(float(loss()))
    assert (values[0] - values[1]) / (2 * step) == pytest.approx(float(norm), rel=3e-2)


def test_three_atoms_in_line_can_be_trained_on(model):
    """CO2 along an axis: the angle's derivative is singular there."""
    model(batch_of(boxed("CO2", 0), boxed("CH4")))["forces"].norm(dim=-1).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients and all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("chosen", [[True, False, True], [True] * 3, [False] * 3])
def test_copies_are_structures_like_others(model, batch, chosen):
    copy_, moved = displaced(batch, chosen, "energy", "forces")
    alone, expected = model(batch), model(moved)
    out = model(batch, copies=[copy_])
    close = {"rtol": 1e-4, "atol": 1e-4}
    for key in ("energy", "forces"):
        torch.testing.assert_close(out[key], alone[key], **close)
    energy, forces = expected["energy"][copy_.chosen], expected["forces"][copy_.atoms(batch)]
    torch.testing.assert_close(out["moved"]["energy"], energy, **close)
    torch.testing.assert_close(out["moved"]["forces"], forces, **close)


def test_no_forces_where_none_are_asked_for(model, batch):
    copy_, _ = displaced(batch, [True] * 3, "energy")
    out = model(batch, outputs=["energy"], copies=[copy_])
    assert out.keys() == {"energy", "moved"} and out["moved"].keys() == {"energy"}
    assert out["energy"].shape == (3,)


def test_the_batch_stays_as_it_is(model, batch):
    copy_, _ = displaced(batch, [True] * 3, "energy", "forces")
    before = {key: value.clone() for key, value in batch.to_dict().items() if key != "sid"}
    model(batch, copies=[copy_])
    assert {*batch.keys()} == {*before, "sid"}
    assert not batch.pos.requires_grad and not copy_.pos.requires_grad
    assert all(torch.equal(batch[key], value) for key, value in before.items())


def test_a_lone_atom():
    """SchNet gives it an energy and no force; PaiNN needs neighbours, and says so."""
    atoms = batch_of(boxed("CH4"), boxed("CH4")[:1])
    out = ConservativeModel({"name": "schnet", **MODELS["schnet"]})(atoms)
    assert out["energy"].isfinite().all() and (out["forces"][-1] == 0).all()
    painn = ConservativeModel({"name": "painn", **MODELS["painn"]})
    with pytest.raises(UserError, match="batch: structure 1 has no two atoms within"):
        painn(atoms)


def test_what_fairchems_models_cannot_evaluate_is_named():
    painn = ConservativeModel({"name": "painn", **MODELS["painn"]})
    mixed = batch_of(boxed("CH4"), boxed("CH4"))
    mixed.pbc = torch.tensor([[True, True, True], [True, True, False]])
    with pytest.raises(UserError, match="different periodic boundaries; train on one kind"):
        painn(mixed)
    bare = batch_of(boxed("CH4"))
    del bare.cell
    with pytest.raises(UserError, match="its structures have no cell; add a large one"):
        painn(bare)


def test_a_model_that_cannot_leave_out_its_forces_is_refused():
    with pytest.raises(ValueError, match="hydra cannot leave out its own"):
        ConservativeModel({"name": "hydra"})


@pytest.mark.skipif(hasattr(torch_sparse, "__file__"), reason="torch_sparse is installed")
def test_missing_extension_is_named(batch):
    model = ConservativeModel({"name": "dimenetplusplus", **MODELS["dimenetplusplus"]})
    with pytest.raises(UserError, match="pip install --no-build-isolation torch_scatter"):
        model(batch)


@pytest.mark.slow
def test_a_baseline_trains_with_the_physics_losses_and_opens_anywhere(qm9_folder, tmp_path):
    own = [o for o in small_run(qm9_folder) if not o.startswith("--model")]
    result = run_main(
        "--mode", "train", "--config-yml", "configs/qm9/schnet_physics.yml", "--cpu", "--run-dir",
        tmp_path, "--timestamp-id", "run", "--print-every", 1, *own, "--optim.max_epochs=8",
    )  # fmt: skip
    assert result.returncode == 0, result.stdout[-3000:]
    losses = losses_by_step(result.stdout)
    assert sum(losses[i] for i in range(57, 65)) < 0.5 * sum(losses[i] for i in range(1, 9))
    assert "zero_force_loss" in result.stdout and "bound_loss" in result.stdout
    first = (
        "" if hasattr(sys.modules["torch_scatter"], "__file__") else "import ocp_physmol.plugin; "
    )
    code = f"""{first}from fairchem.core import OCPCalculator
from ase.build import molecule
atoms = molecule("CH4", vacuum=8.0, pbc=True)
checkpoint = "{tmp_path}/checkpoints/run/best_checkpoint.pt"
atoms.calc = OCPCalculator(checkpoint_path=checkpoint, cpu=True, seed=0)
assert -1200 < atoms.get_potential_energy() < -1000  # eV, with the references of the elements
print(abs(atoms.get_forces().sum(axis=0)).max() < 1e-3 < abs(atoms.get_forces()).max())
"""
    opened = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=REPOSITORY,
                            capture_output=True, text=True)  # fmt: skip
    assert opened.stdout.strip().endswith("True"), opened.stdout[-500:] + opened.stderr[-2000:]
