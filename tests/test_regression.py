"""Pinned numbers: 30 steps of training in double precision, from a fixed seed, end where they did.

What a change of structure must not change: data order, random draws, losses, gradients, optimiser.
A change that means to change numbers pins new ones, and says why.
"""

from __future__ import annotations

import copy

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import pytest
import torch
from conftest import SAMPLE_CSV
from fairchem.core.common.registry import registry

from ocp_physmol.datasets import emt, qm9
from ocp_physmol.datasets.lmdb_writer import write_lmdb

STEPS = 30
WATCHED = (0, 1, 9, 29)  # of the steps

FORCES = {"level": "atom", "train_on_free_atoms": True, "eval_on_free_atoms": True}
OUTPUTS = {"energy": {"level": "system"}, "forces": FORCES}
TRANSFORMS = {"element_references": {"fit": {"targets": ["energy"], "batch_size": 8}}}
PHYSMOL = {"name": "physmol", "hidden_channels": 16, "num_layers": 2, "num_rbf": 8}
SCHNET = {"name": "fairchem.core.models.schnet.SchNetWrap",
          "hidden_channels": 16, "num_filters": 16, "num_interactions": 2,
          "num_gaussians": 8, "cutoff": 5.0}  # fmt: skip

ENERGY = {"energy": {"fn": "mae", "coefficient": 1.0}}
ZERO_FORCE = {"zero_force": {"fn": "zero_force", "coefficient": 4.0}}
BOUND = {"bound": {"fn": "bound", "coefficient": 1.0, "noise": 0.5}}
MASKED = {"masked_atoms": {"fn": "masked_atoms", "coefficient": 0.1, "mask_ratio": 0.3}}
RESTORING = {"restoring_force": {"fn": "restoring_force", "coefficient": 2.0, "noise": 0.12}}

CASES = {
    "printed": ("qm9", PHYSMOL, {**ENERGY, **MASKED, **ZERO_FORCE, **BOUND}),
    "printed with [CLS]": (
        "qm9",
        {**PHYSMOL, "use_cls": True, "use_adjacency": True, "readout": "cls"},
        {**ENERGY, **MASKED, **ZERO_FORCE, **BOUND},
    ),
    "recommended": ("qm9", PHYSMOL, {**ENERGY, **RESTORING}),
    "SchNet": (
        "qm9",
        {"name": "conservative", "energy_model": SCHNET},
        {**ENERGY, **ZERO_FORCE, **BOUND},
    ),
    "IS2RE": ("is2re", {**PHYSMOL, "readout": "atom"}, {**ENERGY, **ZERO_FORCE, **BOUND}),
}
PINNED = {
    "printed": [91.16729167013563, 1341.529580887724, 52.019730907796884, 4.795502765204014],
    "printed with [CLS]": [
        0.8229983566351877,
        0.7453647925119491,
        0.7032173855968286,
        0.5540908623785135,
    ],
    "recommended": [2.7846173937156324, 7.491101946450731, 4.80543789002073, 5.090574453071717],
    "SchNet": [11.335791529469143, 17.86597482297177, 3.9473344708128213, 2.3654727261489388],
    "IS2RE": [0.03221798427832889, 0.21089905662035743, 0.09897346418931742, 0.03894100486822242],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The committed molecules, and relaxations on slabs, in double precision."""
    folder = tmp_path_factory.mktemp("double")
    entries = {
        "qm9": [qm9.to_data(molecule) for molecule in qm9.read_csv(SAMPLE_CSV)],
        "is2re": [emt.is2re_entry(emt.relax(system)) for system in emt.plan(8, seed=0)[:8]],
    }
    for name, structures in entries.items():
        for data in structures:
            cell = data.cell  # fairchem's neighbour search takes single precision alone
            data.apply(lambda t: t.double() if t.is_floating_point() else t)
            data.cell = cell
        write_lmdb(folder / name, structures)
    return folder


def losses(folder, data: str, model: dict, terms: dict) -> list[float]:
    """The loss of each step."""
    outputs = OUTPUTS if data == "qm9" else {"energy": OUTPUTS["energy"]}
    labels = {"y": "energy", "force": "forces"} if data == "qm9" else {"y_relaxed": "energy"}
    torch.set_default_dtype(torch.float64)
    try:
        trainer = registry.get_trainer_class("physmol")(
            task={}, model=dict(model), outputs=outputs,
            dataset={"train": {"format": "physmol_lmdb", "src": str(folder / data),
                               "key_mapping": labels, "transforms": copy.deepcopy(TRANSFORMS)}},
            optimizer={"batch_size": 4, "num_workers": 0, "lr_initial": 1e-3, "scheduler": "Null",
                       "optimizer": "AdamW", "max_epochs": STEPS, "eval_every": 1000,
                       "clip_grad_norm": 10, "ema_decay": 0.9},
            loss_functions=[{name: dict(options)} for name, options in terms.items()],
            evaluation_metrics={"metrics": {"energy": ["mae"]}, "primary_metric": "energy_mae"},
            identifier="", local_rank=0, is_debug=True, cpu=True, seed=0, logger="tensorboard",
        )  # fmt: skip
        found, compute = [], trainer._compute_loss

        def watched(out, batch):
            loss = compute(out, batch)
            found.append(loss.item())
            if len(found) == STEPS:
                raise StopIteration
            return loss

        trainer._compute_loss = watched
        with pytest.raises(StopIteration):
            trainer.train()
    finally:
        torch.set_default_dtype(torch.float32)
    return found


@pytest.mark.parametrize("name", CASES)
def test_training_ends_where_it_did(name, folder):
    found = losses(folder, *CASES[name])
    assert [found[step] for step in WATCHED] == pytest.approx(PINNED[name], rel=1e-6)
