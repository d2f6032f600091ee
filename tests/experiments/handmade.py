"""Records with chosen numbers, as `judge` would write them."""

import copy

from ocp_physmol.files import write_json

WATER = {"gdb": 3, "split": "train", "numbers": [8, 1, 1], "displacement": 0.1, "broken": False}
AT_MINIMUM = [[0, 0.1, 0], [0.8, -0.5, 0], [-0.8, -0.5, 0]]
POSITIONS = {"reference": AT_MINIMUM, "start": AT_MINIMUM, "end": AT_MINIMUM}
BANDS = ("below 1000", "1000 to 2000", "2000 and above")
MODES = {"modes": 3, "mae_per_cm": 50.0, "median_ratio": 0.9, "imaginary_fraction": 0.1}


def record(name: str, energy: float = 50.0, force: float = 0.1, delta_p: float = 0.2, **more):
    """A record of the experiment "table1", with `delta_p` after every noise."""
    recovery = {
        "delta_p_a": delta_p, "median_delta_p_a": delta_p, "median_energy_change_ev": 0.1,
        "converged_fraction": 0.5, "drifted_fraction": 0.0, "broken_fraction": 0.0,
        "exploded_fraction": 0.0, "displacements": [delta_p, delta_p],
        "energy_changes_ev": [-0.1, float("inf")], "broken": [0, 1], "converged": [1, 0],
    }  # fmt: skip
    vibrations = {
        **MODES, "converged_fraction": 1.0, "molecules": 2, "failed": 0,
        "bands": {band: MODES for band in BANDS}, "band_edges_per_cm": [1000, 2000],
        "pairs": [[500, 400], [1500, 1600], [3000, -20]],
    }  # fmt: skip
    content = {
        "name": name, "experiment": "table1", "title": "Some models", "place": 0, "note": "",
        "paper": "",
        "config": {"path": "configs/qm9/x.yml", "complete": {"optim": {"batch_size": 4}}},
        "command": "ocp-physmol experiments x.yml", "seed": 0,
        "seconds": {"budget": 600.0, "used": 600.3}, "steps": 1234, "parameters": 5678,
        "machine": {"processor": "some processor", "cores": 2, "threads": 1},
        "versions": {"python": "3.11", "torch": "2.4", "fairchem-core": "1.10.0"},
        "git": {"revision": "0123456789abcdef", "dirty": False}, "date": "2026-01-01",
        "data": {"max_heavy_atoms": 7, "train": 32, "judged": 6}, "sids": [1, 2],
        "protocol": {"recovery": "steps", "vibrations": "steps", "assembly": "steps"},
        "errors": {"energy_mae_mev": energy, "force_mae_ev_per_a": force},
        "recovery": {noise: {**recovery, "do_nothing_delta_p_a": 1.5 * float(noise)}
                     for noise in ("0", "0.05", "0.1")},
        "vibrations": {"minimum": vibrations, "reference": MODES},
        "assembly": {"success_fraction": 0.25, "do_nothing_success_fraction": 0.0, "delta_p_a": 0.4,
                     "median_delta_p_a": 0.4, "do_nothing_delta_p_a": 0.3,
                     "converged_fraction": 1.0, "exploded_fraction": 0.0, "num_molecules": 2},
        "pictures": {"recovery": [{**WATER, **POSITIONS}], "assembly": [{**WATER, **POSITIONS}]},
    }  # fmt: skip
    return copy.deepcopy({**content, **more})


def write_all(folder, *records: dict) -> None:
    """Write records where `read_records` looks for them."""
    for content in records:
        write_json(folder / content["experiment"] / f"{content['name']}.json", content)
