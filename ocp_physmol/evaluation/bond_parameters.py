"""Looking inside (section 3.4): has the model learned bonds? What Eq. 5 holds for real molecules:
python -m ocp_physmol.evaluation.bond_parameters --help"""

from __future__ import annotations

import argparse
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from ase.data import chemical_symbols
from tqdm import tqdm

from ocp_physmol.arguments import positive
from ocp_physmol.datasets.lmdb_dataset import PhysMolLmdbDataset
from ocp_physmol.errors import UserError, exit_on_user_error
from ocp_physmol.figures.bond_parameters import bond_parameters_figure
from ocp_physmol.files import write_json
from ocp_physmol.geometry import bonded
from ocp_physmol.model.energy import PhysicsReadout, pair_energy
from ocp_physmol.model.physmol import PhysMol
from ocp_physmol.model.radial import cosine_envelope
from ocp_physmol.relaxation.predictor import batches, load_predictor, quiet

PARAMETERS = {  # of a pair, beside its distance
    "equilibrium_a": "beta_4 (Å)",
    "exponent": "beta_3",
    "depth_ev": "beta_2 (eV)",
    "coulomb_ev_a": "beta_1 beta_0 (eV Å)",
}
TERMS = ("coulomb_ev", "lennard_jones_ev", "atoms_ev")  # what an energy consists of
CURVE = np.linspace(0.6, 4.0, 86)  # Angstrom


def bond_parameters(
    predictor, structures, batch_size: int = 64, samples: int = 200, seed: int = 0
) -> dict:
    """What a PhysMol with the physics readout makes of the pairs of atoms in some structures.

    Args:
        predictor: of `load_predictor`.
        structures: at their minima, so that distances are bond lengths.
        samples: pairs to keep of each kind (elements, bonded or not), drawn with `seed`.

    Returns:
        `pairs`, by elements ("C-H") and "bonded" or "not bonded" (as `geometry.bonded` has it):
        their `count`; median, 10th and 90th percentile of `distance_a` and each of PARAMETERS;
        `correlation` of beta_4 and distance; and `samples`, lists of the same quantities.
        `curves`, by elements, for the bonded pair of median length: its `distance_a` and `beta`,
        and phi E_ij (eV) with this beta at the distances `at_a`, split as in TERMS.
        `molecules`, lists by molecule of TERMS (eV), which add up to the energy without the element
        references; and `molecule_terms`, their mean and spread.

    Raises:
        UserError: for another model or readout.
    """
    tables, molecules = [], []
    bar = tqdm(total=len(structures), desc="Bond parameters", unit=" molecules", mininterval=1)
    with _observed(predictor) as (model, outputs):
        scale = _energy_scale(predictor)
        for batch in batches(structures, batch_size):
            with quiet():
                predictor.predict(batch, per_image=False, disable_tqdm=True)
            out = {key: value.detach().cpu() for key, value in outputs.pop().items()}
            pairs = _pair_table(out, batch.atomic_numbers.cpu().long(), model.cutoff, scale)
            tables.append(pairs)
            molecules.append(_terms(pairs, out, batch.batch.cpu(), scale))
            bar.update(len(batch.natoms))
    bar.close()
    table = pd.concat(tables, ignore_index=True)
    molecules = pd.concat(molecules, ignore_index=True)
    kinds, curves = {}, {}
    for (elements, has_bond), group in table.groupby(["elements", "bonded"]):
        kind = "bonded" if has_bond else "not bonded"
        kinds.setdefault(elements, {})[kind] = _kind(group, samples, seed)
        if has_bond:
            curves[elements] = _curve(group, model.cutoff, scale)
    return {
        "pairs": kinds,
        "curves": curves,
        "molecules": _lists(molecules, 4),
        "molecule_terms": {
            term: {"mean": round(values.mean(), 4), "std": round(values.std(ddof=0), 4)}
            for term, values in molecules.items()
        },
    }


@contextmanager
def _observed(predictor):
    """The model, and a list to which each call of `predictor.predict` adds all its outputs."""
    model = predictor._unwrapped_model
    readout = getattr(model, "readout", None)
    if not isinstance(model, PhysMol) or not isinstance(readout, PhysicsReadout):
        path = getattr(predictor, "checkpoint_path", "")
        kind = type(model).__name__ + (f" with {type(readout).__name__}" if readout else "")
        raise UserError(
            f"checkpoint {path} holds a {kind}, which has no pair energy; "
            "use one trained with model.name physmol and model.readout physics"
        )
    outputs, before = [], model.bond_parameters
    hook = model.register_forward_hook(lambda module, inputs, out: outputs.append(out))
    model.bond_parameters = True
    try:
        yield model, outputs
    finally:
        hook.remove()
        model.bond_parameters = before


def _energy_scale(predictor) -> float:
    """eV for each unit of the model's output."""
    normalizer = predictor.normalizers.get("energy")
    return 1.0 if normalizer is None else float(normalizer.rmsd)


def _pair_table(out: dict, numbers: torch.Tensor, cutoff: float, scale: float) -> pd.DataFrame:
    """One row for each pair of a batch."""
    beta, distance = out["bond_parameters"].double(), out["bond_distance"].double()
    pair = numbers[out["bond_index"]].numpy()  # [2, P]
    rank = np.select([pair == 6, pair == 1], [0, 1000], pair)  # C first and H last, as in C-H, N-H
    first, second = np.take_along_axis(pair, rank.argsort(axis=0), axis=0)
    coulomb, lennard_jones = scale * torch.stack(_split_energy(distance, beta, cutoff))
    return pd.DataFrame({
        "elements": [f"{chemical_symbols[a]}-{chemical_symbols[b]}" for a, b in zip(first, second)],
        "bonded": bonded(first, second, distance.numpy()),
        "atom": out["bond_index"][0],
        "distance_a": distance,
        "equilibrium_a": beta[:, 4],
        "exponent": beta[:, 3],
        "depth_ev": scale * beta[:, 2],
        "coulomb_ev_a": scale * beta[:, 1] * beta[:, 0],
        "coulomb_ev": coulomb,
        "lennard_jones_ev": lennard_jones,
        **{f"beta_{k}": beta[:, k] for k in range(5)},
    })  # fmt: skip


def _split_energy(distance: torch.Tensor, beta: torch.Tensor, cutoff: float):
    """phi E_ij of pairs [P] at `distance` [P] with `beta` [P, 5]: Coulomb's part, and the rest."""
    envelope = cosine_envelope(distance, cutoff)
    no_charge, no_depth = beta.clone(), beta.clone()
    no_charge[:, 0], no_depth[:, 2] = 0, 0
    return envelope * pair_energy(distance, no_depth), envelope * pair_energy(distance, no_charge)


def _terms(pairs: pd.DataFrame, out: dict, batch: torch.Tensor, scale: float) -> pd.DataFrame:
    """TERMS of each molecule of a batch; atoms have what the pairs have not."""
    energy = scale * out["energy"].double().view(-1).numpy()
    molecule = batch.numpy()[pairs["atom"]]
    sums = pairs[["coulomb_ev", "lennard_jones_ev"]].groupby(molecule).sum()
    sums = sums.reindex(range(len(energy)), fill_value=0.0)
    return sums.assign(atoms_ev=energy - sums.sum(axis=1))


def _kind(group: pd.DataFrame, samples: int, seed: int) -> dict:
    """Summaries and samples of the pairs of one kind."""
    values = group[["distance_a", *PARAMETERS]]
    spread = values.quantile([0.1, 0.5, 0.9]).round(4)
    varies = len(group) > 2 and (values[["distance_a", "equilibrium_a"]].std() > 1e-6).all()
    correlation = values["distance_a"].corr(values["equilibrium_a"]) if varies else None
    return {
        "count": len(group),
        "correlation": correlation if correlation is None else round(correlation, 4),
        **{
            key: {"p10": column[0.1], "median": column[0.5], "p90": column[0.9]}
            for key, column in spread.items()
        },
        "samples": _lists(values.sample(min(samples, len(group)), random_state=seed), 4),
    }


def _curve(group: pd.DataFrame, cutoff: float, scale: float) -> dict:
    """The pair energy of the group's pair of median length, at all distances of CURVE."""
    pair = group.sort_values("distance_a").iloc[len(group) // 2]
    beta = pair[[f"beta_{k}" for k in range(5)]].to_numpy(dtype=float)
    distance = torch.tensor(CURVE)
    coulomb, lennard_jones = _split_energy(
        distance, torch.tensor(beta).expand(len(distance), 5), cutoff
    )
    energies = pd.DataFrame({TERMS[0]: scale * coulomb, TERMS[1]: scale * lennard_jones})
    return {
        "distance_a": round(pair["distance_a"], 4),
        "at_a": CURVE.round(2).tolist(),
        "beta": beta.round(5).tolist(),
        **_lists(energies, 5),
    }


def _lists(table: pd.DataFrame, digits: int) -> dict[str, list[float]]:
    return table.round(digits).to_dict("list")


@exit_on_user_error
def main(arguments: list[str] | None = None) -> None:
    """Command line of the look inside."""
    parser = argparse.ArgumentParser(
        prog="python -m ocp_physmol.evaluation.bond_parameters",
        description="Show the pair energies that a PhysMol has learned (Eq. 5).",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--checkpoint", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=Path("data/quickstart/test"), help="LMDB")
    parser.add_argument("--molecules", type=positive, default=588, help="take the first so many")
    parser.add_argument("--output", type=Path, default=Path("runs/bond_parameters"), help="folder")
    args = parser.parse_args(arguments)

    data = PhysMolLmdbDataset({"src": str(args.data)})
    structures = [data[i] for i in range(min(args.molecules, len(data)))]
    result = bond_parameters(load_predictor(args.checkpoint), structures)
    _print_table(result)
    args.output.mkdir(parents=True, exist_ok=True)
    bond_parameters_figure(args.output / "bond_parameters.png", result)
    write_json(args.output / "bond_parameters.json", result)


def _print_table(result: dict) -> None:
    """Medians of each kind of pair, and the parts of the energy."""
    print(f"\n{'medians':18}{'pairs':>8}{'distance (Å)':>14}"
          + "".join(f"{label:>22}" for label in PARAMETERS.values()))  # fmt: skip
    for elements, kinds in result["pairs"].items():
        for kind, values in kinds.items():
            medians = "".join(f"{values[key]['median']:22.3f}" for key in PARAMETERS)
            print(f"{elements + ' ' + kind:18}{values['count']:8}"
                  f"{values['distance_a']['median']:14.3f}{medians}")  # fmt: skip
    print("\nEnergy of a molecule without element references, mean ± spread (eV): "
          + ", ".join(f"{term[:-3]} {value['mean']:.2f} ± {value['std']:.2f}"
                      for term, value in result["molecule_terms"].items()))  # fmt: skip


if __name__ == "__main__":
    main()
