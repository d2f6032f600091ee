"""How fast PhysMol is beside fairchem's own models: python benchmarks/speed.py --json speed.json

On one core, in one run: inference of energy and forces, and one training step with energy and force
loss; for PhysMol also its step with all four losses. Compare ratios, not milliseconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
import warnings
from pathlib import Path

import ocp_physmol  # noqa: F401  # before fairchem, which it makes importable

# isort: split
import numpy as np
import torch
from ase.build import add_adsorbate, fcc111, molecule
from fairchem.core.common.registry import registry
from fairchem.core.common.utils import setup_imports
from fairchem.core.datasets import data_list_collater
from fairchem.core.preprocessing import AtomsToGraphs
from tqdm import tqdm

from ocp_physmol import copies
from ocp_physmol.datasets import qm9
from ocp_physmol.errors import exit_on_user_error
from ocp_physmol.losses import bound, masked_atoms, zero_force

REFERENCE = "SchNet"


def models(width: int, layers: int, cutoff: float) -> dict[str, tuple[str, dict]]:
    """Registry name and options of each model, at the same width, depth and cutoff."""
    graph = {"cutoff": cutoff, "use_pbc": True, "otf_graph": True, "regress_forces": True}
    conservative = {**graph, "direct_forces": False, "max_neighbors": 50}
    physmol = {"hidden_channels": width, "num_layers": layers, "cutoff": cutoff}
    return {
        "PhysMol": ("physmol", physmol),
        "PhysMol [CLS]": ("physmol", {**physmol, "use_cls": True}),
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
    convert, data = AtomsToGraphs(r_edges=False, r_pbc=True), []
    for number in range(count):
        slab = fcc111("Cu", (4, 4, 5), vacuum=10.0, periodic=True)
        add_adsorbate(slab, molecule("CO"), 2.0, "ontop")
        slab.rattle(0.05, seed=number)
        data.append(convert.convert(slab))
        data[-1].sid, data[-1].fixed = number, torch.zeros(len(slab))
        data[-1].energy, data[-1].forces = torch.zeros(1), torch.zeros(len(slab), 3)
    return data_list_collater(data, otf_graph=True)


def median_ms(function, repeats: int) -> float:
    """Median time of a call after two that do not count, in milliseconds."""
    times = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return statistics.median(times[2:])


def inference(model, batch):
    """A call that predicts energies and forces as fairchem does."""

    def call():
        with torch.no_grad():
            model(batch.clone())

    model.eval()
    return call


def training_step(model, batch, all_losses: bool = False):
    """A call that takes one optimiser step with energy and force loss, or with all four."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    if all_losses:
        draws = copies.structure_generators(batch, 0, 0, "benchmark")

    def call():
        current = batch.clone()
        if all_losses:
            current.pos_displaced = copies.displaced_positions(current, 0.5, draws)
            current.masked = copies.masked_atoms(current, 0.3, draws)
        out = model(current)
        energy = out["energy"].view(-1)
        loss = (energy - batch.energy).abs().mean()
        loss = loss + zero_force(out["forces"], batch.forces).mean()
        if all_losses:
            loss = loss + bound(energy, out["energy_displaced"]).mean()
            hidden = current.atomic_numbers[current.masked].long()
            target = torch.nn.functional.one_hot(hidden, out["masked_logits"].shape[1])
            loss = loss + masked_atoms(out["masked_logits"][current.masked], target).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model.train()
    return call


def measure(name: str, options: tuple[str, dict], batch, repeats: int) -> list[dict]:
    """Rows of the table for one model on one batch."""
    registered, kwargs = options
    build = registry.get_model_class(registered)
    torch.manual_seed(0)
    model = build(**kwargs)
    row = {
        "model": name,
        "parameters": sum(p.numel() for p in model.parameters()),
        "atoms": len(batch.pos),
        "inference_ms": median_ms(inference(model, batch), repeats),
        "train_step_ms": median_ms(training_step(model, batch), repeats),
    }
    if registered != "physmol":
        return [row]
    model = build(**kwargs, use_masking=True)
    step = median_ms(training_step(model, batch, all_losses=True), repeats)
    return [row, {**row, "model": f"{name}, all losses", "train_step_ms": step,
                  "parameters": sum(p.numel() for p in model.parameters())}]  # fmt: skip


def print_table(rows: list[dict]) -> None:
    """Times, and how they compare with REFERENCE on the same system."""
    print(f"\n{'system':8}{'model':28}{'parameters':>11}{'atoms':>7}{'inference ms':>14}{'x':>7}"
          f"{'train step ms':>15}{'x':>7}")  # fmt: skip
    reference = {row["system"]: row for row in rows if row["model"] == REFERENCE}
    for row in rows:
        base = reference[row["system"]]
        ratios = [row[key] / base[key] for key in ("inference_ms", "train_step_ms")]
        print(f"{row['system']:8}{row['model']:28}{row['parameters']:>11}{row['atoms']:>7}"
              f"{row['inference_ms']:>14.1f}{ratios[0]:>7.2f}{row['train_step_ms']:>15.1f}"
              f"{ratios[1]:>7.2f}")  # fmt: skip
    print(f"\nx: ratio to {REFERENCE}; the force loss differentiates the model's own forces")


@exit_on_user_error
def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--width", type=int, default=128, help="hidden channels (128)")
    parser.add_argument("--layers", type=int, default=4, help="blocks (4)")
    parser.add_argument("--repeats", type=int, default=7, help="timed calls (7)")
    parser.add_argument("--threads", type=int, default=1, help="of the processor (1)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # for all models alike
    setup_imports()
    rows = []
    systems = {"QM9": qm9_batch(), "slab": slab_batch()}
    compared = models(args.width, args.layers, cutoff=5.0)
    bar = tqdm(total=len(systems) * len(compared), desc="Measuring", unit=" models")
    for system, batch in systems.items():
        measure("warm-up", compared["PhysMol"], batch, 3)  # the first would pay for fresh memory
        for name, options in compared.items():
            bar.set_postfix_str(f"{name} on {system}")
            try:
                found = measure(name, options, batch, args.repeats)
                rows += [{"system": system, **row} for row in found]
            except ImportError as e:
                bar.write(f"{name} left out: {e}")
            bar.update()
    bar.close()
    print_table(rows)
    if args.json:
        args.json.write_text(json.dumps(rows, indent=2) + "\n")


if __name__ == "__main__":
    main()
