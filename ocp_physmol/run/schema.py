"""What the sections of a config may hold, beside options that classes declare themselves.

Every key that fairchem 1.10 reads is here.
"""
# ruff: noqa: RUF012  (pydantic copies defaults)

from typing import Annotated, Any, Literal

from pydantic import Field, create_model, model_validator

from ocp_physmol.validation import Section

AtLeastZero = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Workers = Annotated[int, Field(ge=0, le=1000)]  # processes, which are all started at once
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no other
Names = Annotated[list[str], Field(min_length=1)]
Options = dict[str, Any]
OnError = Literal["raise", "warn_and_balance", "warn_and_no_balance", None]


def optional(kind: Any, keys: str) -> dict[str, Any]:
    """Keys of one type that may be left out, for `create_model`."""
    return dict.fromkeys(keys.split(), (kind, None))


class Fit(Section):
    """Normalizers or element references that are fitted to the training data."""

    targets: Names | dict[str, dict[str, float]] = Field(examples=["[energy]"])
    batch_size: Positive = Field(examples=[32])
    num_batches: Positive | None = None
    num_workers: Workers = 0
    shuffle: bool = True
    seed: Seed = 0
    fitted: bool = False  # written by fairchem into checkpoints
    override_values: dict[str, dict[str, float]] | None = None
    rmsd_correction: int | None = None
    max_num_elements: Positive = 118
    log_metrics: bool = True
    use_numpy: bool = True
    driver: str | None = None


class Scale(Section):
    """Given values of one target: a normalizer, or the file of one or of element references."""

    file: str | None = None
    mean: float | None = None
    stdev: float | None = Field(None, gt=0)
    rmsd: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> "Scale":
        if self.file is None and (self.mean is None or self.stdev is self.rmsd is None):
            raise ValueError("give 'stdev' and 'mean', or 'file'")
        return self


class Scales(Section, extra="allow"):
    """`normalizer` or `element_references`: `fit`, `file`, and given values by target."""

    __pydantic_extra__: dict[str, Scale]

    fit: Fit = Field(None)  # type: ignore[assignment]  # it may be absent, but not null
    file: str | None = None


class Transforms(Section):
    """Changes of every entry."""

    normalizer: Scales | None = None
    element_references: Scales | None = None
    decompose_tensor: dict[str, Any] | None = None  # of fairchem


class Subset(Section):
    op: Literal["abs_le", "in"] = Field(examples=["in"])
    metadata_key: str = Field(examples=["natoms"])
    rhv: Any = Field(examples=["[3, 5]"])  # or a number, or the path of a file of numbers


class AnySplit(Section, extra="allow"):
    """`dataset.train`, `val`, `test` or `relax`; its format may have keys of its own."""

    src: str | Names = Field(examples=["data/qm9/train"])
    format: str = "lmdb"
    key_mapping: dict[str, str] | None = None
    transforms: Transforms | None = None
    use_train_settings: bool = True
    required: list[str] = []
    # which entries
    first_n: Positive | None = None
    sample_n: Positive | None = None
    no_shuffle: bool | None = None
    seed: Seed = 0
    max_atoms: Positive | None = None
    subset_to: list[Subset] = []
    shard: Count = 0
    total_shards: Positive = 1


Split = create_model(  # of one of fairchem's formats or ours
    "Split", __base__=AnySplit, __cls_kwargs__={"extra": "forbid"},
    **optional(str, "pattern data2train"),
    **optional(str | None, "metadata_path index_file oc20_ref"),
    **optional(bool, "include_relaxed_energy keep_in_memory use_tqdm train_on_oc20_total_energies"),
    **optional(bool | None, "apply_tags"),
    **optional(bool | str | None, "lin_ref"),
    **optional(Options, "ase_read_args atoms_transform_args connect_args select_args"),
    **optional(Options | None, "a2g_args train_split_settings val_split_settings"),
    **optional(Options | None, "test_split_settings splits"),
)  # fmt: skip


class Output(Section):
    level: Literal["system", "atom"] = "system"
    prediction_dtype: Literal["float16", "float32"] = "float16"
    train_on_free_atoms: bool = True
    eval_on_free_atoms: bool = True
    property: str | None = None
    irrep_dim: Count | None = None
    parent: str | None = None
    decomposition: dict[str, "Output"] = {}


class EvaluationMetrics(Section):
    metrics: dict[str, Names] = {}
    primary_metric: str = Field(examples=["energy_mae"])


class Loss(Section):
    """An entry of `loss_functions` that compares an output with its label."""

    fn: str = Field(examples=["mae"])
    coefficient: AtLeastZero = Field(examples=[1.0])
    reduction: Literal["mean", "sum", None] = None


class LossOrTerm(Loss, extra="allow"):
    """An entry of `loss_functions`; a term declares further options itself."""


class Named(Section, extra="allow"):
    """A class, beside options that it declares itself."""

    name: str = Field(description="a name that fairchem knows, or an import path")


class Optim(Section):
    """Section `optim`, beside the options of the scheduler."""

    batch_size: Positive = Field(examples=[32])
    eval_batch_size: Positive = 1
    num_workers: Workers = Field(examples=[2])
    load_balancing: Literal["atoms", "neighbors", None] = None
    load_balancing_on_error: OnError = None
    optimizer: str = "AdamW"
    optimizer_params: Options = {}
    weight_decay: AtLeastZero = 0
    lr_initial: AtLeastZero = Field(examples=["5.0e-4"])
    scheduler: str | None = None
    warmup_steps: Positive = 1
    warmup_factor: AtLeastZero = 0
    lr_gamma: AtLeastZero = 0
    lr_milestones: list[Positive] = []
    start_from: str | None = None  # a model that ocp-physmol export wrote, or a shipped one
    max_epochs: Positive = Field(examples=[100])
    max_seconds: float | None = Field(None, gt=0)
    max_steps: Positive | None = None
    evaluations: Positive | None = None
    eval_every: Positive = 1
    checkpoint_every: Literal[-1] | Positive = 1
    ema_decay: float | None = Field(None, ge=0, lt=1)
    clip_grad_norm: AtLeastZero | None = None
    load_datasets_and_model_then_exit: bool = False


class Task(Section):
    strict_load: bool = True
    relaxation_steps: Count = 300
    relaxation_fmax: AtLeastZero = 0.02
    relax_opt: Options = {}
    save_full_traj: bool = True
    write_pos: bool = False
    prediction_dtype: Literal["float16", "float32"] = "float16"
    dataset: str | None = None
    eval_relaxations: Literal[False] = False  # which fairchem's trainers do not survive
    relax_dataset: Options | None = None
    # what relaxations of ours do not have
    num_relaxation_batches: Literal[1] = 1
    relax_cell: Literal[False] = False
    relax_volume: Literal[False] = False
    set_deterministic_scatter: Literal[False] = False


class Config(Section):
    """The sections of a configuration."""

    # each split is checked later, with what it takes over from `train`
    dataset: dict[Literal["train", "val", "test", "relax"], Options | None] = Field(
        examples=["{train: {src: data/qm9/train}}"]
    )
    model: Named = Field(examples=["{name: physmol}"])
    outputs: dict[str, Output] = Field(min_length=1, examples=["{energy: {level: system}}"])
    evaluation_metrics: EvaluationMetrics = Field(examples=["{primary_metric: energy_mae}"])
    loss_functions: list[dict[str, LossOrTerm]] = Field(
        min_length=1, examples=["[{energy: {fn: mae, coefficient: 1}}]"]
    )
    optim: Options = Field(examples=["{batch_size: 32, num_workers: 2, ...}"])
    task: Task = Task()
    trainer: str = Field(examples=["physmol"])
    logger: str | Named = "wandb"
    slurm: Options | None = None
    hide_eval_progressbar: bool = False


CommandLine = create_model(
    "CommandLine", __base__=Section,
    **optional(str, "mode identifier run_dir"),
    **optional(Literal["gloo", "nccl", "mpi"], "distributed_backend"),
    **optional(str | None, "timestamp_id checkpoint"),
    **optional(bool, "is_debug amp cpu submit summit"),
    **optional(Positive, "print_every world_size"),
    **optional(Positive | None, "gp_gpus"),
    **optional(Seed | None, "seed"),
)  # fmt: skip
