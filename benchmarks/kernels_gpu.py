"""The Triton kernels on the GPU that is here: their numbers beside float64, their time beside torch's.

    python benchmarks/kernels_gpu.py --output FOLDER [--quick]

MSSA's attention beside torch's scaled_dot_product_attention with one tensor as query, key and value, and the end of an
ISTA step beside torch's operators; forward, and forward with backward. Times are medians of CUDA events, the error is
|| ours - exact || / || exact || with the exact numbers in float64. Writes kernels.json.
"""

import argparse
from itertools import chain
from pathlib import Path

import torch
from torch.nn import functional as F

from crate_transformers.bench.machine import describe_machine
from crate_transformers.ops import use_forms
from crate_transformers.ops.ista.shrink import shrink_sum
from crate_transformers.report.writing import write_json

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
# batch, heads, tokens, width of a head, causal
SHAPES = [
    (16, 6, 197, 64, False), (16, 12, 197, 48, False), (256, 6, 197, 64, False), (64, 12, 785, 64, False),
    (8, 12, 1024, 64, True), (4, 16, 4096, 64, True), (8, 8, 1024, 128, False), (32, 6, 1024, 32, False),
]  # fmt: skip
QUICK = [SHAPES[0], SHAPES[4]]
TOKENS = [(16 * 197, 384), (64 * 197, 768)]  # of the end of an ISTA step


def attention_by_kernel(w, scaling, causal):
    from crate_transformers.ops.mssa.triton import SubspaceFlashAttention

    return SubspaceFlashAttention.apply(w, scaling, causal)


def attention_by_torch(w, scaling, causal):
    return F.scaled_dot_product_attention(w, w, w, is_causal=causal, scale=scaling).transpose(1, 2)


def error(found, exact):
    return ((found.double() - exact).norm() / exact.norm()).item()


def with_gradient(function, inputs, probe):
    """The result, and the gradients of its product with a probe."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    result = function(*leaves)
    return result, torch.autograd.grad(result, leaves, probe.to(result.dtype))


def measured(function, inputs, probe, milliseconds):
    """Medians of milliseconds: (forward, forward and backward)."""
    from triton.testing import do_bench

    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    probe = probe.to(function(*inputs).dtype)

    def both():
        torch.autograd.grad(function(*leaves), leaves, probe)

    def forward():
        with torch.no_grad():
            function(*inputs)

    return tuple(do_bench(one, warmup=10, rep=milliseconds, return_mode="median") for one in (forward, both))


def compared(what, ours, torchs, inputs, exact_function, milliseconds):
    """A row: errors of both beside float64, times of both."""
    exact_inputs = [tensor.double() for tensor in inputs]
    probe = torch.randn_like(exact_function(*exact_inputs))
    exact, exact_gradients = with_gradient(exact_function, exact_inputs, probe)
    row = {**what}
    for name, function in (("ours", ours), ("torch", torchs)):
        found, gradients = with_gradient(function, inputs, probe)
        row[f"error_{name}"] = error(found, exact)
        row[f"gradient_error_{name}"] = max(map(error, gradients, exact_gradients))
        row[f"forward_ms_{name}"], row[f"both_ms_{name}"] = measured(function, inputs, probe, milliseconds)
    return row


def attention_rows(shapes, dtypes, milliseconds):
    for batch, heads, tokens, width, causal in shapes:
        for name in dtypes:
            if name == "float32" and tokens > 1024:
                continue
            rows = torch.randn(batch, tokens, heads, width, device="cuda", dtype=DTYPES[name])
            w, scaling = rows.transpose(1, 2), width**-0.5
            what = {"operator": "attention", "dtype": name, "shape": [batch, heads, tokens, width], "causal": causal}
            few = w[: max(1, 2**24 // (heads * tokens**2))]  # so many as float64 scores have room
            exact = compared(
                what,
                lambda w, s=scaling, c=causal: attention_by_kernel(w, s, c),
                lambda w, s=scaling, c=causal: attention_by_torch(w, s, c),
                [few],
                lambda w, s=scaling, c=causal: attention_by_torch(w, s, c),
                1,
            )
            probe = torch.randn_like(rows)
            for side, function in (("ours", attention_by_kernel), ("torch", attention_by_torch)):
                times = measured(lambda w, f=function, s=scaling, c=causal: f(w, s, c), [w], probe, milliseconds)
                exact[f"forward_ms_{side}"], exact[f"both_ms_{side}"] = times
            yield exact


def ista_rows(sizes, dtypes, milliseconds):
    for tokens, width in sizes:
        for name in dtypes:
            x, left = (torch.randn(tokens, width, device="cuda", dtype=DTYPES[name]) for _ in range(2))
            right = torch.randn(width, width, device="cuda", dtype=DTYPES[name]) * width**-0.5

            def by_equation(x, left, right):
                with use_forms("equation"):
                    return shrink_sum(x, left, right, 0.1, 0.01)

            what = {"operator": "end of an ISTA step", "dtype": name, "shape": [tokens, width], "causal": False}
            yield compared(
                what,
                lambda x, left, right: shrink_sum(x, left, right, 0.1, 0.01, triton=True),
                lambda x, left, right: shrink_sum(x, left, right, 0.1, 0.01),
                [x, left, right],
                by_equation,
                milliseconds,
            )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="two shapes, two dtypes")
    options = parser.parse_args()
    torch.manual_seed(0)
    shapes, dtypes, milliseconds = (QUICK, ["bfloat16", "float32"], 20) if options.quick else (SHAPES, DTYPES, 60)
    rows = []
    torch.set_default_device("cuda")
    record = {"machine": describe_machine(), "rows": rows}
    for row in chain(ista_rows(TOKENS, dtypes, milliseconds), attention_rows(shapes, dtypes, milliseconds)):
        rows.append(row)
        print(row, flush=True)
        write_json(options.output / "kernels.json", record)  # a run that is cut off keeps what it measured


if __name__ == "__main__":
    main()
