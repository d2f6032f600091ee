"""What the sections of a config may hold, beside options that classes declare themselves.

Every key that fairchem 1.10 reads is here. Numbers are numbers: nothing is converted.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

AtLeastZero = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # NumPy takes no other
Names = Annotated[list[str], Field(min_length=1)]


class Section(BaseModel):
    """Keys and values of a mapping; others are refused."""

    model_config = ConfigDict(
        extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=()
    )


class Fit(Section):
    """Normalizers or element references that are fitted to the training data."""

    targets: Names | dict[str, dict[str, float]]
    batch_size: Positive
    num_batches: Positive | None = None
    num_workers: Count = 0
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


class Scales(BaseModel):
    """`normalizer` or `element_references`: `fit`, `file`, and given values by target."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)
    __pydantic_extra__: dict[str, Scale]

    fit: Fit | None = None
    file: str | None = None


class Transforms(BaseModel):
    """What is done to every entry; further keys name functions of fairchem."""

    model_config = ConfigDict(extra="allow", strict=True)

    normalizer: Scales | None = None
    element_references: Scales | None = None


class Subset(Section):
    """Keep the entries whose metadata compare like this."""

    op: Literal["abs_le", "in"]
    metadata_key: str
    rhv: Any


class Split(Section):
    """`dataset.train`, `val`, `test` or `relax`."""

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
    metadata_path: str | None = None
    lin_ref: bool | str | None = None
    train_split_settings: dict[str, Any] | None = None
    val_split_settings: dict[str, Any] | None = None
    test_split_settings: dict[str, Any] | None = None
    splits: dict[str, dict[str, Any]] | None = None
    # formats ase_read, ase_read_multi, ase_db
    a2g_args: dict[str, Any] | None = None
    apply_tags: bool | None = None
    ase_read_args: dict[str, Any] = {}
    atoms_transform_args: dict[str, Any] = {}
    connect_args: dict[str, Any] = {}
    select_args: dict[str, Any] = {}
    include_relaxed_energy: bool = False
    index_file: str | None = None
    keep_in_memory: bool = False
    pattern: str = "*"
    use_tqdm: bool = True
    # format oc22_lmdb
    data2train: str = "all"
    oc20_ref: str | None = None
    train_on_oc20_total_energies: bool = False


class ForeignSplit(Split):
    """A split whose format is neither fairchem's nor ours, and may take keys of its own."""

    model_config = ConfigDict(extra="allow")


class Dataset(Section):
    """Section `dataset`; each split is checked with what it takes over from `train`."""

    train: dict[str, Any] | None = None
    val: dict[str, Any] | None = None
    test: dict[str, Any] | None = None
    relax: dict[str, Any] | None = None


class Output(Section):
    """One output of the model."""

    level: Literal["system", "atom"] = "system"
    prediction_dtype: Literal["float16", "float32"] = "float16"
    train_on_free_atoms: bool = True
    eval_on_free_atoms: bool = True
    property: str | None = None
    irrep_dim: Count | None = None
    parent: str | None = None
    decomposition: dict[str, "Output"] = {}


class EvaluationMetrics(Section):
    """Section `evaluation_metrics`."""

    metrics: dict[str, Names] = {}
    primary_metric: str = Field(examples=["energy_mae"])


class Loss(Section):
    """An entry of `loss_functions` that compares an output with its label."""

    fn: str = Field(examples=["mae"])
    coefficient: float = Field(ge=0)
    reduction: Literal["mean", "sum"] | None = None


class Named(BaseModel):
    """A class by its name, beside options that the class declares itself."""

    model_config = ConfigDict(extra="allow", strict=True)

    name: str = Field(examples=["physmol"])


class Logger(Named):
    """`logger` with options, of Weights & Biases for example."""

    name: str = Field(examples=["wandb"])


class Optim(Section):
    """Section `optim`, beside the options of the scheduler."""

    batch_size: Positive
    eval_batch_size: Positive = 1
    num_workers: Count
    load_balancing: Literal["atoms", "neighbors"] | None = None
    load_balancing_on_error: Literal["raise", "warn_and_balance", "warn_and_no_balance"] | None = (
        None
    )
    optimizer: str = "AdamW"
    optimizer_params: dict[str, Any] = {}
    weight_decay: AtLeastZero = 0
    lr_initial: AtLeastZero
    scheduler: str | None = None
    warmup_steps: Positive = 1
    warmup_factor: AtLeastZero = 0
    lr_gamma: AtLeastZero = 0
    lr_milestones: list[Positive] = []
    max_epochs: Positive
    max_seconds: AtLeastZero | None = None
    eval_every: Positive = 1
    checkpoint_every: int = Field(1, ge=-1)
    ema_decay: float | None = Field(None, ge=0, le=1)
    clip_grad_norm: AtLeastZero | None = None
    load_datasets_and_model_then_exit: bool = False


class Task(Section):
    """Section `task`: relaxations and predictions."""

    strict_load: bool = True
    relaxation_steps: Count = 300
    relaxation_fmax: AtLeastZero = 0.02
    relax_opt: dict[str, Any] = {}
    save_full_traj: bool = True
    write_pos: bool = False
    prediction_dtype: Literal["float16", "float32"] = "float16"
    dataset: str | None = None
    eval_relaxations: bool = False
    relax_dataset: dict[str, Any] | None = None
    num_relaxation_batches: Positive = 1
    relax_cell: bool = False
    relax_volume: bool = False
    set_deterministic_scatter: bool = False


class Config(Section):
    """The sections of a configuration."""

    dataset: Dataset
    model: Named
    outputs: dict[str, Output] = Field(min_length=1)
    evaluation_metrics: EvaluationMetrics
    loss_functions: list[dict[str, dict[str, Any]]] = Field(min_length=1)
    optim: dict[str, Any]
    task: Task = Task()
    trainer: str = Field(examples=["physmol"])
    logger: str | Logger = "wandb"
    slurm: dict[str, Any] | None = None
    hide_eval_progressbar: bool = False


class Run(Section):
    """What the command line adds to a configuration."""

    mode: str
    identifier: str
    timestamp_id: str | None = None
    seed: Seed | None = None
    is_debug: bool = False
    run_dir: str = "."
    print_every: Positive = 10
    amp: bool = False
    checkpoint: str | None = None
    cpu: bool = False
    submit: bool = False
    summit: bool = False
    world_size: Positive = 1
    distributed_backend: str = "gloo"
    gp_gpus: Positive | None = None
