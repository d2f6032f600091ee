"""The compiled sums against the formulas they stand for, written with tensor operations."""

import pytest
import torch
from torch.nn import functional as F

from ocp_physmol.model.fast import kernels

ATOMS, EDGES, WIDTH, HEADS, VECTORS = 7, 40, 8, 2, 4


@pytest.fixture(params=[0, VECTORS], ids=["scalars", "vectors"])
def num_vectors(request) -> int:
    return request.param


@pytest.fixture(params=[torch.float64, torch.float32], ids=["float64", "float32"])
def arguments(request, num_vectors) -> dict:
    """Random values of all that the sums depend on; leaves where gradients are wanted."""
    torch.manual_seed(0)

    def leaf(*shape):
        return torch.randn(*shape, dtype=request.param, requires_grad=True)

    return {
        "query": leaf(ATOMS, WIDTH),
        "key_value": leaf(ATOMS, 2 * (WIDTH + num_vectors)),
        "vectors": leaf(ATOMS, 3 * num_vectors),
        "table": leaf(30, 2 * (WIDTH + num_vectors)),
        "weight": leaf(EDGES, 4),
        "gate": leaf(EDGES, HEADS),
        "direction": leaf(EDGES if num_vectors else 0, 3),
        "first": torch.randint(0, 27, (EDGES,)),
        "center": torch.randint(0, ATOMS, (EDGES,)),
        "neighbor": torch.randint(0, ATOMS, (EDGES,)),
    }


def read(table, first, weight):
    return (weight[..., None] * table[first[:, None] + torch.arange(4)]).sum(1)


def compiled_attend(query, key_value, vectors, table, **of_edges):
    return kernels.attend(query, key_value, vectors, table, kernels.Edges(**of_edges))


def plain_attend(
    query, key_value, vectors, table, weight, gate, direction, first, center, neighbor
):
    num_vectors = vectors.shape[1] // 3
    message = key_value[neighbor] * read(table, first, weight)
    key, value, along, carried = message.split([WIDTH, WIDTH, num_vectors, num_vectors], dim=-1)
    score = (query[center] * key).unflatten(1, (HEADS, -1)).sum(-1)
    attention = F.silu(score) * gate
    messages = [attention.repeat_interleave(WIDTH // HEADS, 1) * value]
    if num_vectors > 0:
        attention = attention.repeat_interleave(num_vectors // HEADS, 1)
        for axis, component in enumerate(vectors.chunk(3, dim=-1)):
            vector = direction[:, axis, None] * along + component[neighbor] * carried
            messages.append(attention * vector)
    sums = query.new_zeros(len(query), WIDTH + 3 * num_vectors)
    return sums.index_add(0, center, torch.cat(messages, dim=-1))


def compiled_embed(query, table, gate, key_value=None, vectors=None, **of_edges):
    edges = kernels.Edges(gate=gate[:, 0], **of_edges)
    return kernels.embed(query, table[:, :WIDTH], edges)


def plain_embed(query, table, weight, gate, first, center, neighbor, **unused):
    filters = read(table[:, :WIDTH], first, weight)
    message = gate[:, :1] * query[neighbor] * filters
    return torch.zeros_like(query).index_add(0, center, message)


PAIRS = [(compiled_attend, plain_attend), (compiled_embed, plain_embed)]


def value_and_gradients(function, arguments) -> list[torch.Tensor]:
    value = function(**arguments)
    torch.manual_seed(1)
    leaves = [a for a in arguments.values() if a.requires_grad]
    loss = (value * torch.randn_like(value)).sum()
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    return [value, *(torch.zeros_like(a) if g is None else g for a, g in zip(leaves, found))]


@pytest.mark.parametrize(("compiled", "plain"), PAIRS, ids=["attend", "embed"])
@pytest.mark.parametrize("threads", [1, 3])
def test_same_as_tensor_operations(compiled, plain, arguments, threads, monkeypatch):
    monkeypatch.setattr(kernels, "MIN_EDGES", 5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    exact = arguments["query"].dtype == torch.float64
    tolerance = {"rtol": 1e-10, "atol": 1e-10} if exact else {"rtol": 1e-4, "atol": 1e-4}
    for found, expected in zip(
        value_and_gradients(compiled, arguments), value_and_gradients(plain, arguments)
    ):
        torch.testing.assert_close(found, expected, **tolerance)


@pytest.mark.parametrize("compiled", [compiled_attend, compiled_embed])
def test_a_second_derivative_is_refused(compiled, arguments):
    value = compiled(**arguments)
    loss = value.square().sum() + arguments["query"].square().sum()
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(loss, arguments["query"], create_graph=True)


def test_any_layout_in_memory(arguments):
    """Dense tensors whose rows are not one after the other, as transposing makes them."""
    expected = value_and_gradients(compiled_attend, arguments)
    for name in ("query", "key_value", "vectors", "table", "weight", "gate", "direction"):
        arguments[name] = arguments[name].detach().T.contiguous().T.requires_grad_()
    for found, other in zip(value_and_gradients(compiled_attend, arguments), expected):
        torch.testing.assert_close(found, other)


@pytest.mark.parametrize(("compiled", "plain"), PAIRS, ids=["attend", "embed"])
def test_gradients_not_asked_for_are_left_out(compiled, plain, arguments):
    for name in ("table", "weight", "gate", "direction"):
        arguments[name] = arguments[name].detach()
    for found, expected in zip(
        value_and_gradients(compiled, arguments), value_and_gradients(plain, arguments)
    ):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_no_edges():
    empty = torch.zeros(0, dtype=torch.long)
    edges = kernels.Edges(empty, empty, empty, torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, 3))
    x = torch.randn(3, 4, requires_grad=True)
    out = kernels.embed(x, torch.randn(5, 4), edges)
    out.sum().backward()
    assert (out == 0).all()
    assert (x.grad == 0).all()
