"""The Triton kernels compiled for GPUs that need not be here, and what they take of them.

    python benchmarks/kernels_ahead.py --output benchmarks/results/kernels_ahead.json [--quick]

For NVIDIA's sm_80 (A100) and sm_90 (H100, H200) and AMD's gfx942 (MI300), in bfloat16, float16 and float32, for every
head size: shared memory of a block from Triton's metadata, registers and spills of a thread from ptxas, or from the
metadata in AMD's assembly. Pointers and strides are aligned and the last axis is dense, as they are in a model. Tiles
are the largest ones; shorter sequences take smaller ones.
"""

import argparse
import hashlib
import re
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path

import torch
from triton import compile as compiled
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from crate_transformers.ops.ista import triton as ista
from crate_transformers.ops.mssa import triton as mssa
from crate_transformers.report.writing import write_json

TARGETS = {  # name -> (target, bytes of shared memory that a block may have)
    "sm_80": (GPUTarget("cuda", 80, 32), 163 * 1024),
    "sm_90": (GPUTarget("cuda", 90, 32), 227 * 1024),
    "gfx942": (GPUTarget("hip", "gfx942", 64), 64 * 1024),
}
DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
HEAD_SIZES = (16, 32, 64, 128)  # others take the next one
TOKENS = 1024
DENSE = ("w_p", "o_p", "g_p")  # strides of the last axis
POINTERS = {  # of mssa's: sums are in float32
    "w": None, "out": None, "gradient": None, "grad_w": None, "logsumexp": "fp32", "delta": "fp32",
}  # fmt: skip


def kernels(dtypes=tuple(DTYPES), head_sizes=HEAD_SIZES, causal=(False, True)):
    """(what, kernel, types of the arguments, compile-time arguments by target) of all that is compiled."""
    for dtype in dtypes:
        for size in head_sizes:
            for name, kernel in (("forward", mssa._forward), ("backward", mssa._backward)):
                types = {}
                for argument in kernel.arg_names:
                    if argument in POINTERS:
                        types[argument] = "*" + (POINTERS[argument] or dtype)
                    else:
                        types[argument] = "fp32" if argument == "scale" else "i32"
                for past in causal:
                    what = {"kernel": f"attention, {name}", "dtype": dtype, "head_size": size, "causal": past}
                    constants = {"CAUSAL": past, **dict.fromkeys((a for a in DENSE if a in kernel.arg_names), 1)}
                    yield what, kernel, types, constants
        for name, kernel in (("forward", ista._forward), ("backward", ista._backward)):
            types = dict.fromkeys(kernel.arg_names, f"*{dtype}")
            types |= {a: "fp32" for a in ("step_size", "threshold") if a in types} | {"size": "i32"}
            what = {"kernel": f"end of ISTA, {name}", "dtype": dtype, "head_size": None, "causal": None}
            yield what, kernel, types, {"BLOCK": ista._BLOCK}


def compile_for(target, what, kernel, types, constants):
    """A kernel of `kernels` compiled for a target."""
    if what["head_size"] is not None:
        cuda = target.backend == "cuda"
        constants = constants | mssa.settings_of(TOKENS, what["head_size"], DTYPES[what["dtype"]], cuda)
    signature = types | dict.fromkeys(constants, "constexpr")
    place = {argument: (index,) for index, argument in enumerate(kernel.arg_names)}
    strides = [a for a, kind in signature.items() if kind == "i32" and a[:2] in ("w_", "o_", "g_")]
    aligned = [*strides, *(a for a, kind in signature.items() if kind.startswith("*"))]
    attributes = {place[argument]: [["tt.divisibility", 16]] for argument in aligned}
    ordered = {argument: signature[argument] for argument in kernel.arg_names}
    source = ASTSource(kernel, ordered, {place[a]: value for a, value in constants.items()}, attributes)
    return compiled(source, target=target)


def resources(made):
    """{shared, registers, spills} of a compiled kernel: bytes a block; registers and bytes spilled a thread."""
    if "ptx" in made.asm:
        return {"shared": made.metadata.shared, **_of_ptxas(made.asm["ptx"], made.metadata.target.arch)}
    assembly = made.asm["amdgcn"]

    def field(name):
        found = re.search(rf"\.{name}:\s+(\d+)", assembly)
        return int(found.group(1)) if found else 0

    shared = max(made.metadata.shared, field("group_segment_fixed_size"))
    return {
        "shared": shared,
        "registers": field("vgpr_count"),
        "spills": 4 * field("vgpr_spill_count") + field("private_segment_fixed_size"),
    }


def _of_ptxas(ptx, arch):
    with tempfile.NamedTemporaryFile("w", suffix=".ptx") as file:
        file.write(ptx)
        file.flush()
        command = [knobs.nvidia.ptxas.path, "-v", f"--gpu-name=sm_{arch}{'a' if arch >= 90 else ''}", file.name]
        done = subprocess.run([*command, "-o", "/dev/null"], capture_output=True, text=True, check=True)
    registers = re.search(r"Used (\d+) registers", done.stderr)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", done.stderr)
    return {"registers": int(registers.group(1)), "spills": sum(map(int, spills))}


def sources():
    """A digest of the kernels' files, so that a stored table can be told from one of other kernels."""
    files = (Path(module.__file__).read_bytes() for module in (mssa, ista))
    return hashlib.sha256(b"".join(files)).hexdigest()


def rows(targets=tuple(TARGETS), **which):
    """A row a target and kernel: what, what it takes, what there is."""
    for name in targets:
        target, most = TARGETS[name]
        for what, *kernel in kernels(**which):
            yield {"target": name, **what, **resources(compile_for(target, what, *kernel)), "shared_at_most": most}


def table(found):
    """Lines of a table: a row a kernel, dtype and head size, the larger figure of causal and not."""
    yield "| kernel | numbers | head size | " + " | ".join(TARGETS) + " |"
    yield "|---|---|---|" + "---|" * len(TARGETS)
    cells = {}
    for row in found:
        cell = cells.setdefault((row["kernel"], row["dtype"], row["head_size"]), {})
        figures = (row["shared"] / 1024, row["registers"], row["spills"])
        cell[row["target"]] = tuple(map(max, figures, cell.get(row["target"], (0, 0, 0))))
    for (kernel, dtype, size), of in cells.items():
        shown = ("{:.4g} / {} / {}".format(*of[target]) for target in TARGETS)
        yield f"| {kernel} | {dtype} | {'' if size is None else size} | " + " | ".join(shown) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--quick", action="store_true", help="one dtype, one head size")
    options = parser.parse_args()
    which = {"dtypes": ("bf16",), "head_sizes": (64,)} if options.quick else {}
    record = {"triton": version("triton"), "sources": sources(), "rows": []}
    for row in rows(**which):
        record["rows"].append(row)
        print(row, flush=True)
        write_json(options.output, record)
    print("\n".join(table(record["rows"])))


if __name__ == "__main__":
    main()
