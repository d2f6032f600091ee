"""Section 4.3: does a relaxation find its way back to the minimum it was pushed away from?

    python -m ocp_physmol.evaluation.recovery --checkpoint PhysMol=a.pt --checkpoint SchNet=b.pt \\
        --data data/quickstart/test --noise 0 0.05 0.1 --output runs/recovery

pushes all atoms of the smallest and of as many random molecules, relaxes them with each model,
prints what came of it, and writes recovery.json and figures.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ocp_physmol.datasets.identifiers import identifier
from ocp_physmol.errors import exit_on_user_error
from ocp_physmol.evaluation.deviations import aligned, deviations
from ocp_physmol.evaluation.structure_tasks import (
    descent_of,
    open_task,
    panel_rows,
    structure_parser,
    table,
)
from ocp_physmol.figures.distributions import distribution_figure
from ocp_physmol.figures.molecules import molecules_figure
from ocp_physmol.files import write_json
from ocp_physmol.relaxation.batched import Descent, relax

if TYPE_CHECKING:
    from collections.abc import Sequence

ROWS = {
    "delta_p_a": "ΔP after relaxation (Å)",
    "median_delta_p_a": "ΔP, median (Å)",
    "do_nothing_delta_p_a": "ΔP, do nothing (Å)",
    "median_energy_change_ev": "|ΔE_g|, median (eV)",
    "converged_fraction": "converged",
    "drifted_fraction": "drifted beyond 0.5 Å",
    "broken_fraction": "other bonds than before",
    "exploded_fraction": "exploded",
}


@dataclass(frozen=True)
class Protocol(Descent):
    """How the minima are perturbed and relaxed; Delta P means nothing without it."""

    noise: float = 0.1  # Angstrom, standard deviation of every coordinate; 0: does it stay?


def recover(
    predictor, structures: Sequence, protocol: Protocol, batch_size: int = 32, name: str = ""
) -> dict:
    """Perturb each structure, relax it with the model, and compare with where it came from.

    Returns:
        What `deviations` says, the `sids` of the structures, and their `perturbed` and `relaxed`
        positions, aligned.
    """
    rng = np.random.default_rng(protocol.seed)
    structures = [structures[i] for i in range(len(structures))]
    starts = [
        s.pos.numpy() + rng.normal(scale=protocol.noise, size=s.pos.shape) for s in structures
    ]
    relaxed = relax(predictor, structures, starts, protocol, batch_size, f"{name} relaxations")
    return {
        **deviations(predictor, structures, starts, relaxed, protocol.fmax, batch_size),
        "sids": [identifier(s.sid) for s in structures],
        "perturbed": aligned(starts, structures),
        "relaxed": aligned(relaxed.positions, structures),
    }


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Command line of structure recovery."""
    parser = structure_parser("recovery", __doc__, Protocol())
    parser.add_argument(
        "--noise", type=float, nargs="+", default=[Protocol.noise],
        help="standard deviation of every coordinate (Å)",
    )  # fmt: skip
    args = parser.parse_args(arguments)
    predictors, chosen, drawn = open_task(args)
    record = {}
    for noise in args.noise:
        protocol = replace(Protocol(**descent_of(args)), noise=noise)
        options = (protocol, args.batch_size)
        results = {n: recover(p, chosen, *options, n) for n, p in predictors.items()}
        print(f"\n{len(chosen)} molecules of {args.data}, noise of {noise} Å on every coordinate\n"
              f"{protocol}\n\n{table(results, ROWS)}")  # fmt: skip
        record[str(noise)] = {"protocol": vars(protocol), "results": results}
        nothing = next(iter(results.values()))["do_nothing_delta_p_a"]
        distribution_figure(args.output / f"distributions_{noise}.png", results, nothing)
        examples = {n: recover(p, drawn, *options, n) for n, p in predictors.items()}
        rows = panel_rows(drawn, examples, f"pushed by {noise} Å", "perturbed", "relaxed")
        molecules_figure(args.output / f"molecules_{noise}.png", rows)
    write_json(args.output / "recovery.json", {"data": str(args.data), "noise": record})


if __name__ == "__main__":
    main()
