"""Names of structures, which data sets hold as numbers, text or tensors."""

import torch


def identifier(value) -> int | str:
    """A `sid` or `fid` as a number or text."""
    return value.item() if torch.is_tensor(value) else value
