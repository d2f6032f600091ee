"""What makes a structure of a data set unfit."""

import math
from collections.abc import Collection
from numbers import Real
from typing import Any

import torch
from torch_geometric.data.data import BaseData

from ocp_physmol.model.elements import MAX_ATOMIC_NUMBER

MIN_DISTANCE = 0.1  # Angstrom; no two nuclei are ever that close
# OCP's keys of tensors, by the shape of an atom's part
OF_ATOMS: dict[str, tuple[int, ...]] = {
    "pos": (3,), "atomic_numbers": (), "force": (3,), "forces": (3,), "pos_relaxed": (3,),
    "tags": (), "fixed": (),
}  # fmt: skip
LATTICES = {"cell": 9, "pbc": 3}  # how many numbers; the reader gives them their shape
NUMBERS = {"natoms": 1, "y": 1, "energy": 1, "y_relaxed": 1, **LATTICES}
LARGEST_NAME = 2**63  # a batch holds names as integers of 64 bits
SUPPLIED = {"sid", "tags", "fixed"}  # by the reader, where an entry lacks them


def find_problem(
    data: BaseData, required: Collection[str], first: dict[str, str] | None = None
) -> str:
    """Why a structure cannot be trained on, and the cure; empty if it can.

    `required` are keys that it must hold, with finite values, beside those of a structure. `first`
    are the `kinds` of the first entry of its data set, with which it must make a batch.
    """
    finite = [key for key in ("cell", "pos_relaxed") if key in data]
    needed = ("pos", "atomic_numbers", "natoms", *required, *finite)
    for key in needed:
        if key not in data or data[key] is None:
            return f"has no '{key}'; check the dataset's key_mapping or add it to the data"
    for key in dict.fromkeys((*needed, *OF_ATOMS, *NUMBERS)):
        if key in data and (problem := _unfit_value(data[key], key)):
            return f"'{key}' {problem}"
    for key in needed:
        if not torch.isfinite(_numbers(data[key])).all():
            return f"'{key}' holds NaN or infinity; remove this entry or mend its label"
    unlike = "" if first is None else _unlike(data, first)
    return _unfit_shape(data) or _unfit_name(data) or unlike or _unfit_structure(data)


def _unfit_value(value: Any, key: str) -> str:
    if value is None:
        return "is None; remove the key"
    if not isinstance(value, torch.Tensor if key in OF_ATOMS else torch.Tensor | Real):
        kind = "a tensor" if key in OF_ATOMS else "a number or a tensor"
        return f"is of type {type(value).__name__}, not {kind}; mend it"
    if isinstance(value, torch.Tensor) and value.is_complex():
        return "is complex; mend it"
    if key in OF_ATOMS and value.dim() != 1 + len(OF_ATOMS[key]):
        shape = ", ".join(["natoms", *map(str, OF_ATOMS[key])])
        return f"has the shape {list(value.shape)}, not [{shape}]; mend it"
    if key == "pos" and not value.is_floating_point():
        return f"is of type {value.dtype}; store it as torch.float32"
    if isinstance(value, torch.Tensor) and value.numel() == 0:
        return "is empty; remove this entry"
    return ""


def _unfit_shape(data: BaseData) -> str:
    for key, number in NUMBERS.items():
        if key in data and (found := _numbers(data[key])).numel() != number:
            expected = {9: "[1, 3, 3]", 3: "[1, 3]"}.get(number, "that of one number")
            return f"'{key}' has the shape {list(found.shape)}, not {expected}; mend it"
    sizes = (len(data.pos), len(data.atomic_numbers), float(_numbers(data.natoms)))
    if len(set(sizes)) > 1:
        return "{} positions, {} atomic_numbers and natoms {:g} are not one structure".format(
            *sizes
        )
    for key, of_atom in OF_ATOMS.items():
        shape = [len(data.pos), *of_atom]
        if key in data and list(data[key].shape) != shape:
            return f"'{key}' has the shape {list(data[key].shape)}, not {shape}; mend it"
    return ""


def _unfit_name(data: BaseData) -> str:
    for key in ("sid", "fid"):
        if key not in data or isinstance(value := data[key], str):
            continue
        if problem := _unfit_value(value, key):
            return f"'{key}' {problem}"
        number = _numbers(value)
        if number.numel() != 1 or not abs(float(number)) < LARGEST_NAME:
            return f"'{key}' is {value}, not one whole number or text; mend it"
    return ""


def kinds(data: BaseData) -> dict[str, str]:
    """What the value of each key is, as far as all of a batch must have the same."""
    return {key: _kind(value, key) for key, value in data}


def _kind(value: Any, key: str) -> str:
    if isinstance(value, torch.Tensor):
        sizes = [str(size) for size in value.shape]
        if sizes and key not in LATTICES:
            sizes[-1 if "index" in key else 0] = "n"  # of which a batch has the sum
        return "a tensor" if key in LATTICES else f"a tensor of shape [{', '.join(sizes)}]"
    return "a number" if isinstance(value, Real) else f"of type {type(value).__name__}"


def _unlike(data: BaseData, first: dict[str, str]) -> str:
    """What keeps a structure from being in one batch with the first."""
    own = kinds(data)
    for key in {*own, *first} - SUPPLIED:
        has, others = ("lacks", "has") if key in first else ("has", "lacks")
        if key not in own or key not in first:
            return f"{has} '{key}', which the first entry {others}; all need the same keys"
    for key, kind in own.items():
        if kind != first.get(key, kind):
            return f"'{key}' is {kind}, that of the first entry {first[key]}; take one kind"
    return ""


def _numbers(value: Any) -> torch.Tensor:
    if isinstance(value, torch.Tensor):
        return value
    try:
        return torch.tensor(float(value))
    except OverflowError:
        return torch.tensor(math.inf)


def _unfit_structure(data: BaseData) -> str:
    if "cell" in data:
        vectors = data.cell.reshape(3, 3).double()
        if torch.linalg.matrix_rank(vectors) < vectors.any(dim=1).sum():
            return "the vectors of 'cell' lie in a plane or on a line; mend it"
    numbers = data.atomic_numbers
    unknown = (numbers < 1) | (numbers > MAX_ATOMIC_NUMBER) | (numbers != numbers.long())
    if unknown.any():
        return f"atomic_numbers holds {numbers[unknown][0]:g}, which is no element"
    pos = data.pos.float()
    distances = torch.cdist(pos, pos, compute_mode="donot_use_mm_for_euclid_dist")
    distances.fill_diagonal_(torch.inf)
    if distances.min() < MIN_DISTANCE:
        i, j = divmod(int(distances.argmin()), len(numbers))
        return f"atoms {i} and {j} are {distances.min():.3f} Angstrom apart; remove it"
    return ""
