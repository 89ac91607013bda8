"""SwitchBack's linear layer (arXiv 2304.13013, algorithm 1) in NumPy's int8 and int32, as the paper writes it.

Output: data/int8.safetensors
  <case>/{x,weight,bias,gradient}   inputs; weight as PyTorch lays it out, [output, input]
  <case>/{y,dx,dweight,dbias}       output and the gradients of sum(y * gradient)

The product of quantised operands is summed in integers; everything else is f64. The weight's gradient is not quantised.
"""

import argparse
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

CASES = {"square": (8, 16, 16), "wide": (21, 12, 48), "narrow": (10, 48, 12), "long": (4, 700, 4)}


def quantise(x: np.ndarray, axis) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and the largest magnitude along `axis` (of the whole tensor for None)."""
    largest = np.abs(x).max(axis=axis, keepdims=True)
    scaled = np.divide(127.0 * x, largest, out=np.zeros_like(x), where=largest > 0)
    return np.rint(scaled).astype(np.int8), largest


def product(a: tuple, b: tuple) -> np.ndarray:
    """Of two quantised matrices, the second one's scale being that of the whole tensor."""
    whole = a[0].astype(np.int32) @ b[0].astype(np.int32)
    return whole * (a[1] * b[1]) / (127.0 * 127.0)


def case(rows: int, inputs: int, outputs: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    x = rng.standard_normal((rows, inputs)) * np.exp(rng.standard_normal((rows, 1)) * 2)
    x[1] = 0.0
    weight = rng.standard_normal((outputs, inputs)) * 0.3
    bias, gradient = rng.standard_normal(outputs), rng.standard_normal((rows, outputs)) * 1e-3
    gradient[2] = 0.0
    # What both sides are given is f32.
    x, weight, bias, gradient = (a.astype(np.float32).astype(np.float64) for a in (x, weight, bias, gradient))
    y = product(quantise(x, 1), quantise(weight.T, None)) + bias
    dx = product(quantise(gradient, 1), quantise(weight, None))
    found = {"x": x, "weight": weight, "bias": bias, "gradient": gradient}
    found |= {"y": y, "dx": dx, "dweight": gradient.T @ x, "dbias": gradient.sum(0)}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "data")
    output = parser.parse_args().output
    rng = np.random.default_rng(230413013)
    tensors = {}
    for name, (rows, inputs, outputs) in CASES.items():
        for key, value in case(rows, inputs, outputs, rng).items():
            tensors[f"{name}/{key}"] = np.ascontiguousarray(value.astype(np.float32))
    save_file(tensors, output / "int8.safetensors")


if __name__ == "__main__":
    main()
