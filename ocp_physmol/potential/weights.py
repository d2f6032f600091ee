"""A trained model as two files: NAME.safetensors, its weights, and NAME.json, what they are.

Neither can hold code.
"""

import json
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
from ase.data import chemical_symbols
from pydantic import AfterValidator, Field
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ocp_physmol.errors import UserError
from ocp_physmol.files import checksum, complete_or_absent, write_json
from ocp_physmol.model.config import PhysMolConfig
from ocp_physmol.validation import Section, validate

NUM_TYPES = len(chemical_symbols)  # atomic numbers, and 0 for the [mask] token
ELECTRONEGATIVITY = "embedding.electronegativity"  # [119], a buffer that checkpoints leave out


def _element(symbol: str) -> str:
    if symbol not in chemical_symbols[1:]:
        raise ValueError(f"'{symbol}' is no element")
    return symbol


Element = Annotated[str, AfterValidator(_element)]


class Options(PhysMolConfig):
    """Those that a `potential.network.Network` can have."""

    readout: Literal["atom"]
    use_cls: Literal[False] = False
    use_adjacency: Literal[False] = False


class Card(Section):
    """What NAME.json holds. Energies are in eV, distances in Angstrom."""

    format: Literal["ocp-physmol 1"]
    model: Options
    references: dict[Element, float] = Field(
        min_length=1, description="eV for an atom of each element that the model knows"
    )
    environments: list[str] = Field(
        [],
        description="of atoms in ten of its molecules at least, as `geometry.environments`; "
        "none: nobody has looked",
    )
    shift: float = Field(description="eV for a structure")
    scale: float = Field(gt=0, description="eV for each unit of the network's energy")
    sha256: str = Field(description="checksum of NAME.safetensors")
    training: dict = Field(description="how the model was trained")
    about: str = Field("", description="for people: what it is for, figures, licence")


class Trained(NamedTuple):
    card: Card
    weights: dict[str, np.ndarray]  # the state_dict of PhysMolEnergy, and ELECTRONEGATIVITY


def files_of(name: Path) -> tuple[Path, Path]:
    """Weights and card of a model; `name` is either of them, or both without their ends."""
    if name.name in ("", ".."):
        raise UserError(f"'{name}' is no name of a model; give one such as my_model")
    stem = name.with_suffix("") if name.suffix in (".safetensors", ".json") else name
    return stem.with_name(f"{stem.name}.safetensors"), stem.with_name(f"{stem.name}.json")


def write(name: Path, card: dict, weights: dict[str, np.ndarray]) -> None:
    """Write both files, the checksum in the card; a UserError if it is no card of a model."""
    validate(Card, {**card, "sha256": ""})
    file, card_file = files_of(name)
    with complete_or_absent(file) as partial:
        partial.write_bytes(save(weights))  # save_file lets nobody else read it
    write_json(card_file, {**card, "sha256": checksum(file)}, indent=2)


def read(name: Path) -> Trained:
    """The model of two files; a UserError for what is missing, damaged or of another kind."""
    file, card_file = files_of(name)
    for needed in (card_file, file):
        if not needed.is_file():
            raise UserError(f"{needed} does not exist; ocp-physmol export makes it of a checkpoint")
    try:
        card = validate(Card, json.loads(card_file.read_text(encoding="utf-8")))
    except ValueError as e:  # JSON's and Unicode's; UserError is one, too
        raise UserError(f"{card_file} is no card of a model: {e}") from e
    if checksum(file) != card.sha256:
        raise UserError(f"{file} is not the file that {card_file} describes; export both again")
    try:
        weights = load_file(file)
    except (SafetensorError, TypeError, KeyError) as e:  # of types that numpy lacks, too
        raise UserError(f"{file} cannot be read: {e}; export it again") from e
    for key, shape in shapes(card.model).items():
        found = weights[key].shape if key in weights else None
        if found != shape:
            raise UserError(f"{file}: {key} has the shape {found}, not {shape}; export it again")
        if not np.isfinite(weights[key]).all():
            raise UserError(f"{file}: {key} is not finite; export another model")
    return Trained(card, weights)


def shapes(options: Options) -> dict[str, tuple[int, ...]]:
    """Of all weights that a model with these options has."""
    d, m = options.hidden_channels, options.attention_width
    c, k = options.vector_channels, options.num_rbf
    found: dict[str, tuple[int, ...]] = {
        "embedding.type_embedding.weight": (NUM_TYPES, d - 1),
        ELECTRONEGATIVITY: (NUM_TYPES,),
        "radial_basis.mu": (NUM_TYPES, k),
        "radial_basis.sqrt_beta": (NUM_TYPES, k),
        "embedding.radial_projection.weight": (d, k),
        "embedding.neighbor_projection.weight": (d, d),
        **_linear("embedding.combine", 2 * d, d),
        **_linear("readout.f_atom", d, 1),
    }
    for number in range(options.num_layers):
        block = f"attention.blocks.{number}"
        for norm in (f"{block}.attention_norm", f"{block}.feed_forward.0"):
            found |= {f"{norm}.weight": (d,), f"{norm}.bias": (d,)}
        found |= {
            **_linear(f"{block}.attention.query", d, m),
            **_linear(f"{block}.attention.key_value", d, 2 * (m + c)),
            **_linear(f"{block}.attention.distance", k, 2 * (m + c)),
            **_linear(f"{block}.attention.output", m + c, d),
            **_linear(f"{block}.feed_forward.1", d, 2 * d),
            **_linear(f"{block}.feed_forward.3", 2 * d, d),
        }
        if c > 0:
            found[f"{block}.attention.products.left_right.weight"] = (2 * c, c)
    return found


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
