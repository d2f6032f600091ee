"""The options of a PhysMol, and what each may be."""

from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from ocp_physmol.validation import Section

PriorName = Literal["gfn2"]
LONGEST_BOND = 4.0  # Angstrom, beyond the end of any bond in bonds.py


class PhysMolConfig(Section, validate_default=True, title="model"):
    """Section `model` of a configuration, without its `name`.

    Raises:
        pydantic.ValidationError: a ValueError that names every option with an impossible value.
    """

    hidden_channels: int = Field(128, ge=2, description="width d of all embeddings")
    num_layers: int = Field(4, ge=1, description="number of Molecular Attention Blocks L")
    attention_channels: int | None = Field(
        None, ge=1,
        description="width m of queries, keys, values, D^K and D^V, which sets the cost of an "
        "edge (default: hidden_channels)",
    )  # fmt: skip
    num_heads: int = Field(8, ge=1, description="attention heads, a divisor of the width m")
    vector_channels: int = Field(
        0, ge=0,
        description="width c of the vectors that each token carries beside its embedding, a "
        "multiple of num_heads (0: none, as in the paper)",
    )  # fmt: skip
    num_rbf: int = Field(32, ge=1, description="radial basis functions n_b")
    # exp of it is squared in single precision
    cutoff: float = Field(5.0, gt=0, le=40, description="tau of Eq. 3, Angstrom")
    readout: Literal["atom", "bonds", "cls", "physics"] = Field(
        "physics",
        description="how energies are read: sum of atoms, [CLS], or Eq. 6; bonds: Eq. 6 over "
        "bonds alone, from lengths, strengths and stiffness that chemistry knows",
    )
    repulsion: bool = Field(
        False,
        description="add the screened repulsion of nuclei closer than bonds are, on all pairs",
    )
    prior: PriorName | None = Field(
        None,
        description="add GFN2-xTB's energy, so that the network learns what it lacks; for free "
        "molecules, with the data of ocp-physmol data curvature",
    )
    use_cls: bool = Field(
        False,
        description="add the [CLS] token; energies then depend on the whole cell and are not "
        "extensive",
    )
    use_adjacency: bool = Field(False, description="the A-mask on attention weights")
    use_masking: bool = Field(
        False, description="the classifier of Masked Atomic Modeling; switched on with the loss"
    )
    regress_forces: bool = Field(True, description="forces as the exact derivative -dE/dx")
    otf_graph: Literal[True] = Field(True, description="neighbours are always found by the model")

    @property
    def attention_width(self) -> int:
        """m, after its default."""
        return self.attention_channels or self.hidden_channels

    @field_validator("num_heads")
    @classmethod
    def _heads_share_the_width(cls, value: int, info: ValidationInfo) -> int:
        width = info.data.get("attention_channels") or info.data.get("hidden_channels")
        if width and width % value != 0:
            raise ValueError(f"it must be a divisor of the width {width}")
        return value

    @field_validator("vector_channels")
    @classmethod
    def _heads_share_the_vectors(cls, value: int, info: ValidationInfo) -> int:
        heads = info.data.get("num_heads")
        if heads and value % heads != 0:
            raise ValueError(f"it must be a multiple of num_heads, {heads}")
        return value

    @field_validator("readout")
    @classmethod
    def _bonds_end_within_the_cutoff(cls, value: str, info: ValidationInfo) -> str:
        if value == "bonds" and info.data.get("cutoff", LONGEST_BOND) < LONGEST_BOND:
            raise ValueError(f"'bonds' needs a cutoff of at least {LONGEST_BOND} Angstrom")
        return value

    @field_validator("use_cls")
    @classmethod
    def _cls_is_there_to_be_read(cls, value: bool, info: ValidationInfo) -> bool:
        if info.data.get("readout") == "cls" and not value:
            raise ValueError("it must be true for readout 'cls'")
        return value
