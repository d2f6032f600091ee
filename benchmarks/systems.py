"""What the benchmarks compute on, the models they compare, and the calls they time."""

import statistics
import time

import ocp_physmol.plugin  # noqa: F401  # makes fairchem importable

# isort: split
import numpy as np
import torch
from ase.build import add_adsorbate, bulk, fcc111, molecule
from fairchem.core.datasets import data_list_collater
from fairchem.core.preprocessing import AtomsToGraphs
from tqdm import tqdm

from ocp_physmol.datasets import qm9
from ocp_physmol.losses.draws import displaced_positions, structure_generators
from ocp_physmol.losses.masked_atoms import draw_masked
from ocp_physmol.model.copies import Copy
from ocp_physmol.model.physmol import PhysMol


def models(width: int, layers: int, cutoff: float) -> dict[str, tuple[str, dict]]:
    """Registry name and options of each model, at the same width, depth and cutoff."""
    graph = {"cutoff": cutoff, "use_pbc": True, "otf_graph": True, "regress_forces": True}
    conservative = {**graph, "direct_forces": False, "max_neighbors": 50}
    physmol = {"hidden_channels": width, "num_layers": layers, "cutoff": cutoff}
    # half the scalars along an edge: what vectors cost is saved there
    vectors = {"attention_channels": width // 2, "vector_channels": width // 4}
    return {
        "PhysMol": ("physmol", physmol),
        "PhysMol [CLS]": ("physmol", {**physmol, "use_cls": True}),
        "PhysMol vectors": ("physmol", {**physmol, **vectors}),
        "SchNet": ("schnet", {**graph, "hidden_channels": width, "num_filters": width,
                              "num_interactions": layers}),
        "PaiNN": ("painn", {**conservative, "hidden_channels": width, "num_layers": layers,
                            "num_rbf": 64}),
        "DimeNet++": ("dimenetplusplus", {**graph, "hidden_channels": width,
                                          "num_blocks": layers}),
        # the sizes that the Open Catalyst Project published it with
        "GemNet-dT": ("gemnet_t", {**conservative, "num_spherical": 7, "num_radial": 128,
                                   "num_blocks": layers, "emb_size_atom": width,
                                   "emb_size_edge": width, "emb_size_trip": 64,
                                   "emb_size_rbf": 16, "emb_size_cbf": 16,
                                   "emb_size_bil_trip": 64, "num_before_skip": 1,
                                   "num_after_skip": 2, "num_concat": 1, "num_atom": 3}),
    }  # fmt: skip


def qm9_batch(count: int = 32):
    """`count` molecules drawn at random from all of QM9."""
    molecules = list(tqdm(qm9.read_qm9pack(), desc="Reading QM9", unit=" molecules"))
    chosen = np.random.default_rng(0).permutation(len(molecules))[:count]
    batch = data_list_collater([qm9.to_data(molecules[i]) for i in chosen], otf_graph=True)
    batch.energy, batch.forces = batch.y.float(), batch.force
    return batch


def slab_batch(count: int = 4):
    """Rattled Cu(111) slabs of 80 atoms with CO on them."""
    slabs = []
    for seed in range(count):
        slab = fcc111("Cu", (4, 4, 5), vacuum=10.0, periodic=True)
        add_adsorbate(slab, molecule("CO"), 2.0, "ontop")
        slab.rattle(0.05, seed=seed)
        slabs.append(slab)
    return _to_batch(slabs)


def crystal(repeats: tuple[int, int, int]):
    """Rattled copper of 4 atoms a cell, periodic in all directions."""
    atoms = bulk("Cu", cubic=True).repeat(repeats)
    atoms.rattle(0.05, seed=0)
    return _to_batch([atoms])


def _to_batch(structures):
    convert, data = AtomsToGraphs(r_edges=False, r_pbc=True), []
    for sid, atoms in enumerate(structures):
        data.append(convert.convert(atoms))
        data[-1].sid, data[-1].fixed = sid, torch.zeros(len(atoms))
        data[-1].energy, data[-1].forces = torch.zeros(1), torch.zeros(len(atoms), 3)
    return data_list_collater(data, otf_graph=True)


def inference(model, batch):
    """A call that predicts energies and forces as fairchem does."""

    def call():
        model.eval()
        with torch.no_grad():
            return model(batch.clone())

    return call


def training_step(model, batch, forces: bool = True, copied: bool = False):
    """A call that takes one optimiser step with the energy loss, the force loss too (zero force
    where the labels are zero), and the two losses of displaced and masked copies."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    draws = structure_generators(batch, 0, 0, "benchmark") if copied else []

    def call():
        model.train()
        model.regress_forces = forces
        current = batch.clone()
        asked: dict = {}
        if isinstance(model, PhysMol):
            asked["outputs"] = ("energy", "forces") if forces else ("energy",)
        if copied:
            everything = torch.ones_like(current.natoms, dtype=torch.bool)
            displaced = displaced_positions(current, everything, 0.5, draws)
            masked = draw_masked(current, 0.3, draws)
            asked["copies"] = [
                Copy("bound", ("energy",), displaced),
                Copy("masked_atoms", ("masked_logits",), masked=masked),
            ]
        out = model(current, **asked)
        energy = out["energy"].view(-1)
        loss = (energy - batch.energy).abs().mean()
        if forces:
            loss = loss + (out["forces"] - batch.forces).square().sum(-1).mean()
        if copied:
            loss = loss + torch.relu(energy - out["bound"]["energy"].view(-1)).mean()
            logits, numbers = out["masked_atoms"]["masked_logits"], current.atomic_numbers.long()
            loss = loss + torch.nn.functional.cross_entropy(logits[masked], numbers[masked])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        model.regress_forces = True

    return call


def seconds(call) -> float:
    """Wall-clock time of a call, and of what it has begun on a GPU."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median_seconds(call, repeats: int) -> float:
    """Median wall-clock time of a call."""
    return statistics.median(seconds(call) for _ in range(repeats))
