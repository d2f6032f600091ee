"""From a checkpoint to the two files of potential/weights.py: ocp-physmol export --help"""

from collections import Counter
from pathlib import Path

import click
import numpy as np
from ase.data import atomic_numbers, chemical_symbols

from ocp_physmol.errors import UserError, blame
from ocp_physmol.geometry import environments
from ocp_physmol.model.elements import NUM_TYPES
from ocp_physmol.model.physmol import PhysMol
from ocp_physmol.option_types import PATH
from ocp_physmol.potential.weights import ELECTRONEGATIVITY, files_of, write
from ocp_physmol.progress import chunks
from ocp_physmol.relaxation.predictor import Predictor, open_labelled

SMALLEST = 1e-6  # eV, of the energy of an element that the data have
ENOUGH = 10  # molecules, to say that a model knows what they have in common


def export(
    checkpoint: Path,
    name: Path,
    elements: str | None = None,
    about: str = "",
    data: Path | None = None,
) -> None:
    """Write NAME.safetensors and NAME.json of a checkpoint, with a text `about` it.

    The card says how atoms are bonded in `ENOUGH` molecules at least of `data`, an LMDB. The
    `elements` (H,C,...) that the model knows are those with energies of their own in the
    checkpoint. A UserError for a model that is no PhysMol with the readout `atom`.
    """
    predictor = Predictor.open(checkpoint)
    model, trainer = predictor.model, predictor.trainer
    if not isinstance(model, PhysMol):
        raise UserError(f"checkpoint {checkpoint} is of {type(model).__name__}, not of PhysMol")
    normalizer, references = trainer.normalizers.get("energy"), trainer.elementrefs.get("energy")
    of_forces = trainer.normalizers.get("forces")
    if of_forces is not None and float(of_forces.rmsd) != predictor.energy_scale:
        raise UserError(f"checkpoint {checkpoint} has forces of another scale than its energies")
    of_types = np.zeros(NUM_TYPES)
    if references is not None:
        own = references.element_references.double().numpy()
        of_types[: len(own)] = own
    card = {
        "format": "ocp-physmol 1",
        "model": model.config.model_dump(),
        "references": {
            element: float(of_types[atomic_numbers[element]])
            for element in _elements(of_types, elements)
        },
        "environments": [] if data is None else environments_of(data),
        "shift": 0.0 if normalizer is None else float(normalizer.mean),
        "scale": predictor.energy_scale,
        "training": _training(trainer.config),
        "about": about,
    }
    with blame(f"checkpoint {checkpoint} cannot be exported", UserError):
        write(name, card, weights_of(model))


def weights_of(model: PhysMol) -> dict[str, np.ndarray]:
    """What a `potential.network.Network` has of a model."""
    energy = model.energy
    tensors = {
        **{k: v for k, v in energy.state_dict().items() if not k.startswith("radial_basis")},
        "radial_basis.mu": energy.radial_basis.mu,
        "radial_basis.sqrt_beta": energy.radial_basis.sqrt_beta,
        ELECTRONEGATIVITY: energy.embedding.electronegativity,
    }
    return {key: tensor.detach().cpu().numpy() for key, tensor in tensors.items()}


def environments_of(data: Path) -> list[str]:
    """What atoms are bonded to in `ENOUGH` molecules at least, as `geometry.environments`."""
    found: Counter[str] = Counter()
    for (entry,) in chunks(open_labelled(data), 1, f"Reading {data}"):
        found.update(set(environments(entry.atomic_numbers.int().numpy(), entry.pos.numpy())))
    return sorted(environment for environment, count in found.items() if count >= ENOUGH)


def _elements(references: np.ndarray, given: str | None) -> list[str]:
    if given is not None:
        elements = [element.strip() for element in given.split(",")]
        if unknown := [element for element in elements if element not in chemical_symbols[1:]]:
            raise UserError(f"--elements: '{unknown[0]}' is no element; give them as H,C,N,O")
        without = [e for e in elements if not references[atomic_numbers[e]]]
        if without and references.any():
            raise UserError(f"--elements: the checkpoint has no energy of {without[0]}")
        return elements
    known = np.flatnonzero(np.abs(references) > SMALLEST)
    if len(known) in (0, NUM_TYPES):  # one energy for all
        raise UserError(
            "the checkpoint does not say which elements its data have; give them with --elements"
        )
    return [chemical_symbols[number] for number in known]


def _training(config: dict) -> dict:
    """What a card says of a training."""
    dataset = config.get("dataset") or {}
    place = Path(str(dataset.get("src", ""))).parts[-3:]  # not where it is on a machine
    seconds = config["optim"].get("max_seconds")
    return {"data": "/".join(place), "losses": config["loss_functions"], "seconds": seconds}


@click.command("export")
@click.argument("checkpoint", type=PATH)
@click.argument("name", type=PATH)
@click.option("--elements", help="That the model knows: H,C,...  [default: those of its data]")
@click.option(
    "--data",
    type=PATH,
    help="The molecules that it was trained on; relax says where others are unlike them.",
)
@click.option("--about", default="", help="For people: what it is for, figures, licence.")
def command(
    checkpoint: Path, name: Path, elements: str | None, data: Path | None, about: str
) -> None:
    """Write the model of CHECKPOINT to NAME.safetensors and NAME.json, for PhysMolCalculator."""
    export(checkpoint, name, elements, about, data)
    click.echo("Wrote " + " and ".join(map(str, files_of(name))))
