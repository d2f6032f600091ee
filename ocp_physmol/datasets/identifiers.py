"""Names of structures, which data sets hold as numbers, text or tensors."""

import torch


def identifiers(values) -> list[int | str]:
    """Those of a batch, a list or a tensor, which leaves its device once."""
    if torch.is_tensor(values):
        return values.flatten().tolist()
    return [identifier(value) for value in values]


def identifier(value) -> int | str:
    """A `sid` or `fid` as a number or text."""
    return value.item() if torch.is_tensor(value) else value
