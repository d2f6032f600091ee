"""The stand-in for torch_scatter against plain loops, and against the package where it is there."""

import subprocess
import sys

import pytest
import torch

from ocp_physmol import scatter_fallback

INDEX = torch.tensor([0, 0, 1, 3, 3, 3])
SRC = torch.arange(18.0).reshape(6, 3) - 7
REDUCTIONS = ["sum", "add", "mean", "min", "max"]

needs_torch_scatter = pytest.mark.skipif(
    not hasattr(sys.modules["torch_scatter"], "__file__"),
    reason="torch_scatter is not installed (extra: baselines)",
)


@pytest.mark.parametrize("reduce", REDUCTIONS)
def test_scatter(reduce):
    function = {"add": "sum", "min": "amin", "max": "amax"}.get(reduce, reduce)
    expected = torch.zeros(4, 3)
    for group in (0, 1, 3):
        expected[group] = getattr(torch, function)(SRC[group == INDEX], dim=0)
    torch.testing.assert_close(scatter_fallback.scatter(SRC, INDEX, 0, reduce=reduce), expected)
    torch.testing.assert_close(scatter_fallback.segment_coo(SRC, INDEX, reduce=reduce), expected)
    indptr = torch.tensor([0, 2, 3, 3, 6])
    torch.testing.assert_close(scatter_fallback.segment_csr(SRC, indptr, reduce=reduce), expected)


def test_scatter_into_out_and_with_dim_size():
    out = torch.ones(5, 3)
    result = scatter_fallback.scatter(SRC, INDEX, 0, out=out)
    assert result is out and (out[4] == 1).all()
    assert scatter_fallback.scatter(SRC, INDEX, 0, dim_size=7).shape == (7, 3)
    with pytest.raises(NotImplementedError, match="max"):
        scatter_fallback.scatter(SRC, INDEX, 0, out=out, reduce="max")


def test_broadcast():
    assert scatter_fallback.broadcast(INDEX, SRC, 0).shape == SRC.shape


@needs_torch_scatter
@pytest.mark.parametrize("reduce", REDUCTIONS)
@pytest.mark.parametrize("dim", [0, 1])
def test_same_as_torch_scatter(reduce, dim):
    import torch_scatter

    src = SRC if dim == 0 else SRC.T.contiguous()
    torch.testing.assert_close(
        scatter_fallback.scatter(src, INDEX, dim, reduce=reduce),
        torch_scatter.scatter(src, INDEX, dim, reduce=reduce),
    )
    if dim == 0:
        torch.testing.assert_close(
            scatter_fallback.segment_coo(src, INDEX, reduce=reduce),
            torch_scatter.segment_coo(src, INDEX, reduce=reduce),
        )
        indptr = torch.tensor([0, 2, 3, 3, 6])
        torch.testing.assert_close(
            scatter_fallback.segment_csr(src, indptr, reduce=reduce),
            torch_scatter.segment_csr(src, indptr, reduce=reduce),
        )


@pytest.mark.slow
def test_fairchem_imports_whole_and_says_how_to_get_the_rest():
    """In a fresh process all of fairchem's models import; those that need more say so."""
    code = """
import ocp_physmol.plugin
from fairchem.core.common.registry import registry
from fairchem.core.common.utils import setup_imports
setup_imports()
names = registry.mapping["model_name_mapping"]
assert {"physmol", "schnet", "painn", "dimenetplusplus", "gemnet_t"} <= names.keys(), names.keys()
import torch_sparse
try:
    torch_sparse.SparseTensor(row=None, col=None)
except ImportError as e:
    assert "pip install" in str(e)
except Exception:
    pass  # the real package complains of its own
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True)
    assert result.returncode == 0, result.stderr.decode()[-2000:]
