"""A stand-in for torch_scatter (and a signpost for torch_sparse) where they are not installed.

fairchem-core 1.10 imports both without declaring them, and both need a compiler. The few functions
of torch_scatter that fairchem calls rest here on `torch_geometric.utils`. Importing this file puts
them in place; every package of ours whose files import fairchem imports it first.
"""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import torch
import torch_geometric.utils as pyg  # imported first: it must not take the stand-in for the package

HOW_TO_INSTALL = (
    "DimeNet++ and GemNet need torch_sparse, which is not installed. With a C++ compiler: "
    "pip install --no-build-isolation torch_scatter==2.1.2 torch_sparse==0.6.18"
)


def broadcast(src: torch.Tensor, other: torch.Tensor, dim: int) -> torch.Tensor:
    """`torch_scatter.utils.broadcast`: expand `src` along `dim` to the shape of `other`."""
    shape = [1] * other.dim()
    shape[dim] = -1
    return (src.view(shape) if src.dim() == 1 else src).expand_as(other)


def scatter(src, index, dim=-1, out=None, dim_size=None, reduce="sum"):
    """`torch_scatter.scatter` for a one-dimensional `index`, or one that repeats along `dim`."""
    if index.dim() > 1:
        index = index.transpose(0, dim).flatten(1)[:, 0]
    result = pyg.scatter(src, index, dim, dim_size if out is None else out.size(dim), reduce)
    if out is not None and reduce not in ("sum", "add"):
        raise NotImplementedError(f"scatter into `out` with reduce='{reduce}'")
    return result if out is None else out.add_(result)


def segment_coo(src, index, out=None, dim_size=None, reduce="sum"):
    """`torch_scatter.segment_coo`: `scatter` along the index's own dimension."""
    return scatter(src, index, index.dim() - 1, out, dim_size, reduce)


def segment_csr(src, indptr, out=None, reduce="sum"):
    """`torch_scatter.segment_csr` for a one-dimensional `indptr`."""
    index = torch.repeat_interleave(indptr.diff())
    return scatter(src, index, 0, out, indptr.numel() - 1, reduce)


class SparseTensor:
    """Takes the place of `torch_sparse.SparseTensor` until somebody needs it."""

    def __init__(self, *args, **kwargs):
        raise ImportError(HOW_TO_INSTALL)


def _install() -> None:
    stand_ins: dict[str, tuple] = {
        "torch_scatter": (scatter, segment_coo, segment_csr),
        "torch_scatter.utils": (broadcast,),
        "torch_sparse": (SparseTensor,),
    }
    missing = [name for name in stand_ins if importlib.util.find_spec(name.split(".")[0]) is None]
    for name in missing:
        sys.modules[name] = module = ModuleType(name, __doc__)
        module.__spec__ = ModuleSpec(name, loader=None)  # without it, find_spec fails
        vars(module).update({content.__name__: content for content in stand_ins[name]})


_install()
