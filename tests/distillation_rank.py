"""The loss of SimDINO of features in a golden file, and one of several processes that compute it together.

    distillation_rank.py CASES RANK PROCESSES STORE OUTPUT

CASES is a file of JSON: name -> {"golden": file, "views": S, "options": keywords}. Process r of W has the pictures
[r B/W, (r + 1) B/W) of every view.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from crate_transformers.objective import distillation_terms


def of_rank(rows, views, rank=0, processes=1):
    """(views B, d), one view after the other -> (views, B / processes, d), the pictures of one process."""
    return rows.unflatten(0, (views, processes, -1))[:, rank].contiguous()


def terms_and_gradient(golden, views, options, rank=0, processes=1):
    """alignment, rate, loss and the gradient (S, B, d) at the student's features, by name."""
    student = of_rank(golden["student"], views, rank, processes).requires_grad_()
    terms = distillation_terms(student, of_rank(golden["teacher"], 2, rank, processes), **options)
    terms.loss.backward()
    return {**{name: value.detach() for name, value in terms._asdict().items()}, "student_grad": student.grad}


def main(cases, rank, processes, store, output):
    torch.distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=processes)
    found = {}
    for name, case in json.loads(Path(cases).read_text()).items():
        terms = terms_and_gradient(load_file(case["golden"]), case["views"], case["options"], rank, processes)
        found.update({f"{name}/{kind}": value for kind, value in terms.items()})
    save_file(found, output)
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
