"""Layers of a network in numpy, each with its derivative.

`weights` are a state_dict of torch as arrays, and `name` is that of the layer in it.
"""

from collections.abc import Callable, Mapping

import numpy as np

Weights = Mapping[str, np.ndarray]
Backward = Callable[[np.ndarray], np.ndarray]  # from the gradient of an output to the input's

EPSILON = 1e-5  # of torch's LayerNorm


def linear(x: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    """`x` [N, inputs] through a linear layer: [N, outputs]."""
    out = x @ weights[f"{name}.weight"].T
    bias = weights.get(f"{name}.bias")
    return out if bias is None else out + bias


def linear_gradient(grad: np.ndarray, weights: Weights, name: str) -> np.ndarray:
    """The gradient of a linear layer's input [N, inputs] from that of its output."""
    return grad @ weights[f"{name}.weight"]


def silu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """SiLU of `x` and its derivative there."""
    with np.errstate(over="ignore"):  # of exp, where SiLU is zero
        sigmoid = 1 / (1 + np.exp(-x))
    out = x * sigmoid
    return out, sigmoid * (1 + x - out)


def layer_norm(x: np.ndarray, weights: Weights, name: str) -> tuple[np.ndarray, Backward]:
    """`x` [N, d] normalized, and how gradients go back through it."""
    scale = weights[f"{name}.weight"]
    centred = x - x.mean(1, keepdims=True)
    deviation = np.sqrt((centred * centred).mean(1, keepdims=True) + EPSILON)
    normal = centred / deviation

    def backward(grad: np.ndarray) -> np.ndarray:
        grad = grad * scale
        along = (grad * normal).mean(1, keepdims=True)
        return (grad - grad.mean(1, keepdims=True) - normal * along) / deviation

    return normal * scale + weights[f"{name}.bias"], backward


def products(vectors: np.ndarray, weights: Weights, name: str) -> tuple[np.ndarray, Backward]:
    """`model.attention.VectorProducts`: products [N, c] of `vectors` [N, 3c]."""
    channels = vectors.shape[1] // 3
    both = linear(vectors.reshape(-1, 3, channels), weights, name)
    left, right = both[..., :channels], both[..., channels:]
    product = (left * right).sum(1)
    root = (1 + product * product) ** -0.25

    def backward(grad: np.ndarray) -> np.ndarray:
        slope = (grad * (root - 0.5 * product**2 * root**5))[:, None]
        of_both = np.concatenate([slope * right, slope * left], axis=-1)
        return linear_gradient(of_both, weights, name).reshape(vectors.shape)

    return product * root, backward
