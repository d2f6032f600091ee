"""Where the time of a call goes: python benchmarks/profile_step.py

PhysMol's inference and training steps on molecules and on slabs, one core, hidden 128, 4 layers:
wall-clock time, and the operators' own time in it by kind, as torch.profiler sees it.
"""

import argparse
import warnings

import systems  # beside this file; makes fairchem importable

# isort: split
import torch
from torch.profiler import ProfilerActivity, profile

from ocp_physmol.errors import exit_on_user_error
from ocp_physmol.model.physmol import PhysMol

KINDS = {
    "compiled sums": ("EdgeSum",),
    "matrix products": ("mm", "bmm", "addmm", "linear"),
    "gather, scatter": ("index", "scatter", "gather", "cat", "copy", "repeat"),
    "elementwise": ("mul", "add", "sub", "div", "silu", "sigmoid", "softplus", "exp", "log", "neg",
                    "pow", "cos", "sin", "sqrt", "sum", "clamp", "norm", "fill"),
}  # fmt: skip


def kind_of(operator: str) -> str:
    """The kind of an operator by the beginning of its name, 'other' where none fits."""
    name = operator.removeprefix("aten::").lstrip("_")
    for kind, names in KINDS.items():
        if name.startswith(names):
            return kind
    return "other"


def milliseconds(call, repeats: int) -> dict[str, float]:
    """Of one call: its wall-clock time (median), and the operators' own time by kind (mean)."""
    for _ in range(3):
        call()
    wall = 1000 * systems.median_seconds(call, repeats)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for _ in range(repeats):
            call()
    found = {"wall": wall, **dict.fromkeys([*KINDS, "other"], 0.0)}
    for event in profiled.key_averages():
        found[kind_of(event.key)] += event.self_cpu_time_total / 1000 / repeats
    return found


@exit_on_user_error()
def main() -> None:
    """Command line of the profile."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=128, help="hidden channels (128)")
    parser.add_argument("--layers", type=int, default=4, help="blocks (4)")
    parser.add_argument("--repeats", type=int, default=10, help="calls timed and profiled (10)")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    columns = ["wall", *KINDS, "other"]
    print(f"\n{'ms':22}" + "".join(f"{column:>17}" for column in columns))
    for system, batch in {"QM9": systems.qm9_batch(), "slab": systems.slab_batch()}.items():
        torch.manual_seed(0)
        model = PhysMol(hidden_channels=args.width, num_layers=args.layers, use_masking=True)
        calls = {
            "inference": systems.inference(model, batch),
            "energy": systems.training_step(model, batch, forces=False),
            "+ force": systems.training_step(model, batch),
            "+ copies": systems.training_step(model, batch, copied=True),
        }
        for name, call in calls.items():
            found = milliseconds(call, args.repeats)
            line = f"{system + ', ' + name:22}"
            print(line + "".join(f"{found[column]:>17.1f}" for column in columns))


if __name__ == "__main__":
    main()
