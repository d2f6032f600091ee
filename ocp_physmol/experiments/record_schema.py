"""What a record holds. Keys name their units; numbers may be NaN or infinite."""

from typing import Any

from pydantic import ConfigDict, Field, NonNegativeInt

from ocp_physmol.validation import Section

Number = float | None  # None: not measured
Position = list[float]


class Values(Section):
    model_config = ConfigDict(allow_inf_nan=True)


class Part(Values):
    """Other keys than those named are measurements."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[
        str, Number | list[float] | list[list[float]] | dict[str, dict[str, Number]]
    ] = Field(init=False)


class Recovery(Part):
    """After one noise."""

    displacements: list[float]


class Vibrations(Part):
    molecules: int
    bands: dict[str, dict[str, Number]]
    band_edges_per_cm: list[float]
    pairs: list[list[float]]  # 1/cm, of DFT and of the model


class BothVibrations(Section):
    minimum: Vibrations
    reference: Part  # at the data's minimum


class Drawing(Values):
    """A molecule, `reference`, `start` and `end` its positions."""

    gdb: int
    split: str
    numbers: list[int] = Field(min_length=1)
    displacement: float
    broken: bool | int
    reference: list[Position]
    start: list[Position]
    end: list[Position]


class Pictures(Section):
    recovery: list[Drawing]
    assembly: list[Drawing]


class PairKind(Part):
    count: NonNegativeInt
    samples: dict[str, list[float]]
    __pydantic_extra__: dict[str, Any] = Field(init=False)


class BondParameters(Section):
    """As `evaluation.bond_parameters` gives them."""

    pairs: dict[str, dict[str, PairKind]]
    curves: dict[str, Part]
    molecules: dict[str, list[float]]
    molecule_terms: dict[str, dict[str, Number]]


class Config(Section):
    path: str | None = None  # None: of a calculator
    complete: dict[str, Any]


class Seconds(Values):
    budget: float
    used: float


class Machine(Section):
    processor: str
    cores: int
    threads: int


class Revision(Section):
    revision: str | None
    dirty: bool | None


class Record(Section):
    """What every record holds."""

    model_config = ConfigDict(extra="allow")
    name: str
    experiment: str
    title: str
    place: int
    note: str
    paper: str
    config: Config
    command: str
    seed: int
    seconds: Seconds
    steps: int
    parameters: int
    machine: Machine
    versions: dict[str, str]
    git: Revision
    date: str
    errors: Part
    protocol: dict[str, Any]
    data: dict[str, Any]


class OnMolecules(Record):
    sids: list[int]
    recovery: dict[str, Recovery]
    vibrations: BothVibrations
    assembly: Part
    pictures: Pictures
    bond_parameters: BondParameters | None = None


class OnSurfaces(Record):
    model: str
    part: str
    parts: list[str]
    nothing: Part
    relaxations: Part
