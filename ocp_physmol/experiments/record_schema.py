"""What a record holds. Keys name their units; numbers may be NaN or infinite."""

from typing import Any

from pydantic import ConfigDict, Field, NonNegativeInt, model_validator

from ocp_physmol.validation import Section

Number = float | None  # None: not measured
Position = list[float]


class Values(Section):
    model_config = ConfigDict(allow_inf_nan=True)


class Part(Values):
    """Measurements. Other keys than those named are numbers."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Number] = Field(init=False)


class Recovery(Part):
    """After one noise; lists are by molecule."""

    displacements: list[float]
    energy_changes_ev: list[float] | None = None
    broken: list[int] | None = None
    converged: list[int] | None = None


class Assembly(Part):
    displacements: list[float] | None = None
    success: list[int] | None = None
    sids: list[int] | None = None


class Relaxations(Part):
    """On surfaces; lists are by relaxation."""

    sids: list[int] | None = None
    distances_a: list[float] | None = None
    start_distances_a: list[float] | None = None
    energies_ev: list[float] | None = None
    energy_changes_ev: list[float] | None = None
    largest_forces_ev_per_a: list[float] | None = None
    data_forces_ev_per_a: list[float] | None = None


class AtReference(Part):
    """Frequencies at the minimum of the data."""

    bands: dict[str, dict[str, Number]] | None = None
    band_edges_per_cm: list[float] | None = None


class Vibrations(Part):
    molecules: int
    bands: dict[str, dict[str, Number]]
    band_edges_per_cm: list[float]
    pairs: list[list[float]]  # 1/cm, of DFT and of the model


class BothVibrations(Section):
    minimum: Vibrations
    reference: AtReference


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


class Curve(Part):
    at_a: list[float]
    beta: list[float]
    coulomb_ev: list[float]
    lennard_jones_ev: list[float]


class BondParameters(Section):
    """As `evaluation.bond_parameters` gives them."""

    pairs: dict[str, dict[str, PairKind]]
    curves: dict[str, Curve]
    molecules: dict[str, list[float]]
    molecule_terms: dict[str, dict[str, Number]]


class Config(Section):
    path: str | None = None  # None: of a calculator
    complete: dict[str, Any]

    @model_validator(mode="after")
    def _named(self) -> "Config":
        if self.path is None and not isinstance(self.complete.get("calculator"), str):
            raise ValueError("it must have a path, or complete.calculator")
        return self


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
    assembly: Assembly
    pictures: Pictures
    bond_parameters: BondParameters | None = None


class OnSurfaces(Record):
    model: str
    part: str
    parts: list[str]
    nothing: Part
    relaxations: Relaxations
