"""How fast PhysMol is beside fairchem's own models: python benchmarks/speed.py --json speed.json

On one core or a GPU, in one run: inference of energy and forces, training steps, batched relaxation
and peak memory on molecules and slabs, and how time and memory grow with a crystal. The models take
turns, so that a change of the machine's speed meets them all. Compare ratios, not milliseconds.
"""

import argparse
import ctypes
import gc
import json
import statistics
import warnings
from pathlib import Path

import numpy as np
import systems  # beside this file; makes fairchem importable

# isort: split
import torch
import torch_sparse  # the package, or the stand-in for it
from fairchem.core.common.registry import registry
from fairchem.core.common.relaxation.ml_relaxation import ml_relax
from fairchem.core.common.utils import setup_imports
from tqdm import tqdm

from ocp_physmol.errors import exit_on_user_error
from ocp_physmol.scatter_fallback import SparseTensor

REFERENCE = "SchNet"
NEED_TORCH_SPARSE = ("DimeNet++", "GemNet-dT")
RELAXATION_STEPS = 10
CRYSTALS = [(5, 5, 1), (5, 5, 5), (10, 10, 5), (20, 10, 10), (20, 25, 10)]  # 100 to 20,000 atoms


class Predictor:
    """What fairchem's relaxations ask of a trainer."""

    def __init__(self, model, device: torch.device) -> None:
        self.model, self.device = model, device

    def predict(self, batch, per_image=False, disable_tqdm=True):
        return systems.inference(self.model, batch)()


def relaxation(model, batch):
    """A call that relaxes the batch for a fixed number of steps of fairchem's L-BFGS."""

    def call():
        ml_relax(
            batch.clone(), Predictor(model, batch.pos.device), steps=RELAXATION_STEPS, fmax=0.0,
            relax_opt={"maxstep": 0.01}, save_full_traj=False,
        )  # fmt: skip

    return call


def calls(registered: str, options: dict, batch) -> dict:
    """What is timed for one model, by name; training steps on models of their own."""

    def build(**more):
        torch.manual_seed(0)
        model = registry.get_model_class(registered)(**options, **more)
        return model.to(batch.pos.device)

    model = build()
    found = {
        "inference": systems.inference(model, batch),
        "energy step": systems.training_step(build(), batch, forces=False),
        "force step": systems.training_step(build(), batch),
    }
    if registered in ("physmol", "schnet"):  # the others, untrained, may have no forces
        found["relaxation"] = relaxation(model, batch)
    if registered == "physmol":
        full = build(use_masking=True)
        found["all losses"] = systems.training_step(full, batch, copied=True)
    return found


def peak_memory(call) -> float:
    """MB that a call needs at its peak, beside what was there before: of the GPU, if it is used,
    or of the processor, on Linux."""
    gc.collect()
    if torch.cuda.is_initialized():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    lines = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[key].split()[0]) / 1024


def compare(system: str, batch, compared: dict, repeats: int) -> list[dict]:
    """Rows of the table for one system; the models take turns."""
    rows, timed = [], []
    for name, (registered, options) in compared.items():
        found = calls(registered, options, batch)
        row = {"system": system, "model": name, "atoms": len(batch.pos)}
        for what, call in found.items():
            call()  # compiles, allocates
            row[f"{what} MB"] = peak_memory(call)
        rows.append(row)
        timed.append({what: (call, []) for what, call in found.items()})
    for _ in tqdm(range(repeats), desc=f"Timing on {system}", unit=" rounds"):
        for found in timed:
            for call, seconds in found.values():
                seconds.append(systems.seconds(call))
    for row, found in zip(rows, timed):
        row.update({f"{w} ms": 1000 * statistics.median(s) for w, (_, s) in found.items()})
        if "relaxation ms" in row:
            row["relaxed/s"] = 1000 * len(batch.natoms) * RELAXATION_STEPS / row["relaxation ms"]
    return rows


def grow(registered: str, options: dict, repeats: int, device: str) -> list[dict]:
    """Time and memory of PhysMol on crystals of 100 to 20,000 atoms."""
    rows = []
    for size in tqdm(CRYSTALS, desc="Growing a crystal", unit=" sizes"):
        batch = systems.crystal(size).to(device)
        row = {"atoms": len(batch.pos)}
        found = calls(registered, options, batch)
        for what in ("inference", "force step"):
            row[f"{what} MB"] = peak_memory(found[what])
            row[f"{what} ms"] = 1000 * systems.median_seconds(found[what], repeats)
        rows.append(row)
    return rows


def print_comparison(rows: list[dict]) -> None:
    """Times and memory; ratios to the reference on the same system in brackets."""
    reference = {row["system"]: row for row in rows if row["model"] == REFERENCE}
    columns = ["inference", "energy step", "force step", "all losses"]
    head = "".join(f"{c + ' ms':>22}" for c in columns)
    print(f"\n{'system':7}{'model':15}{head}{'force step MB':>15}{'relaxed/s':>11}")
    for row in rows:
        base = reference[row["system"]]
        line = f"{row['system']:7}{row['model']:15}"
        for column in columns:
            if f"{column} ms" not in row:
                line += f"{'':22}"
                continue
            of = "force step" if column == "all losses" else column
            value = row[f"{column} ms"]
            line += f"{value:>14.1f} ({value / base[f'{of} ms']:5.2f})"
        line += f"{row['force step MB']:>15.0f}"
        print(line + (f"{row['relaxed/s']:>11.0f}" if "relaxed/s" in row else ""))
    print(f"in brackets: ratio to {REFERENCE}, of 'all losses' to its force step; "
          "relaxed/s: structures times L-BFGS steps a second")  # fmt: skip


def print_growth(rows: list[dict]) -> None:
    """Times, memory, and the exponents with which they grow."""
    keys = ["inference ms", "inference MB", "force step ms", "force step MB"]
    print(f"\n{'PhysMol, atoms':>16}" + "".join(f"{key:>16}" for key in keys))
    for row in rows:
        print(f"{row['atoms']:>16}" + "".join(f"{row[k]:>16.1f}" for k in keys))
    atoms = np.log([row["atoms"] for row in rows])
    slopes = [np.polyfit(atoms, np.log([row[k] for row in rows]), 1)[0] for k in keys]
    print(f"{'exponent':>16}" + "".join(f"{slope:>16.2f}" for slope in slopes))


@exit_on_user_error()
def main() -> None:
    """Command line of the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="also write the rows to this file")
    parser.add_argument("--width", type=int, default=128, help="hidden channels (128)")
    parser.add_argument("--layers", type=int, default=4, help="blocks (4)")
    parser.add_argument("--models", nargs="+", choices=[*systems.models(128, 4, 5.0)], default=None,
                        help="only these, beside SchNet")  # fmt: skip
    parser.add_argument("--repeats", type=int, default=7, help="timed rounds (7)")
    parser.add_argument("--threads", type=int, default=1, help="of the processor (1)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="(cpu)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)  # for all models alike
    setup_imports()
    compared = systems.models(args.width, args.layers, cutoff=5.0)
    wanted = [*(args.models or compared), REFERENCE]
    chosen = {name: model for name, model in compared.items() if name in wanted}
    if torch_sparse.SparseTensor is SparseTensor:
        missing = [name for name in NEED_TORCH_SPARSE if chosen.pop(name, None)]
        if missing:
            print(f"{', '.join(missing)} left out: torch_sparse is not installed")
    rows = []
    for system, batch in {"QM9": systems.qm9_batch(), "slab": systems.slab_batch()}.items():
        rows += compare(system, batch.to(args.device), chosen, args.repeats)
    grown = grow(*compared["PhysMol"], max(1, args.repeats // 3), args.device)
    print_comparison(rows)
    print_growth(grown)
    if args.json:
        args.json.write_text(json.dumps({"comparison": rows, "growth": grown}, indent=2) + "\n")


if __name__ == "__main__":
    main()
