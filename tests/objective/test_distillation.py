"""The loss of SimDINO equals the published code, in one process and in two, and its equation has closed forms."""

import json
import math
import subprocess
import sys

import pytest
import torch
from distillation_rank import __file__ as RANK
from distillation_rank import of_rank, terms_and_gradient
from reference import FOLDER, largest_difference
from safetensors import safe_open
from safetensors.torch import load_file
from small_runs import ENVIRONMENT

from crate_transformers.objective import coding_rate, distillation_terms

FILES = ("simdino_small_batch", "simdino_large_batch")
SETTINGS, VIEWS = {}, {}
for _file in FILES:
    with safe_open(FOLDER / f"{_file}.safetensors", framework="pt") as _opened:
        VIEWS[_file] = int(_opened.metadata()["ncrops"])
        for _name, _setting in json.loads(_opened.metadata()["settings"]).items():
            SETTINGS[_file, _name] = _setting
ONE = [case for case, setting in SETTINGS.items() if setting["world"] == 1]
TWO = [case for case, setting in SETTINGS.items() if setting["world"] == 2]


def options(setting):
    """The published code's arguments in our words."""
    return {
        "epsilon_squared": setting["eps"],
        "alignment_weight": setting["coeff"],
        "rate_of": ("student", "mean")[setting["expa_type"]],
        "rate_gather": ("local", "all")[setting["reduce_cov"]],
        "normalize_alignment": setting["version"] == 1,
    }


def golden(file):
    return load_file(FOLDER / f"{file}.safetensors")


def assert_as_published(found, expected, prefix):
    for kind in ("alignment", "rate", "loss"):
        assert largest_difference(found[kind], expected[f"{prefix}/{kind}"]) <= 1e-5, kind
    assert largest_difference(found["student_grad"].flatten(0, 1), expected[f"{prefix}/student_grad"]) <= 1e-6


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """What each of two gloo processes found in every case of two processes, and in further ones."""
    folder = tmp_path_factory.mktemp("gloo")
    wanted = {f"{file}/{name}": (file, options(SETTINGS[file, name])) for file, name in TWO}
    wanted.update({gather: (FILES[0], {"rate_gather": gather}) for gather in ("all", "local", "none")})
    cases = {
        name: {"golden": str(FOLDER / f"{file}.safetensors"), "views": VIEWS[file], "options": keywords}
        for name, (file, keywords) in wanted.items()
    }
    (folder / "cases").write_text(json.dumps(cases))
    commands = [
        [
            sys.executable,
            str(RANK),
            str(folder / "cases"),
            str(rank),
            "2",
            str(folder / "store"),
            str(folder / f"{rank}"),
        ]
        for rank in range(2)
    ]
    started = [subprocess.Popen(line, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) for line in commands]
    for process in started:
        _, said = process.communicate(timeout=200)
        assert process.returncode == 0, said
    return [load_file(folder / f"{rank}") for rank in range(2)]


def found_by(rank, two_processes, case):
    return {kind: two_processes[rank][f"{case}/{kind}"] for kind in ("alignment", "rate", "loss", "student_grad")}


# -- as published ------------------------------------------------------------------------------------------------------


def test_the_golden_files_hold_every_case():
    assert (len(ONE), len(TWO)) == (16, 8)
    of_two = [SETTINGS[case] for case in TWO]
    assert {(setting["version"], setting["reduce_cov"]) for setting in of_two} == {(1, 0), (1, 1), (2, 0), (2, 1)}
    of_one = [SETTINGS[case] for case in ONE]
    assert {setting["eps"] for setting in of_one} == {0.05, 0.25, 0.5}
    assert {setting["expa_type"] for setting in of_one} == {0, 1}


@pytest.mark.parametrize(("file", "name"), ONE)
def test_one_process_as_published(file, name):
    expected = golden(file)
    assert_as_published(terms_and_gradient(expected, VIEWS[file], options(SETTINGS[file, name])), expected, name)


@pytest.mark.parametrize(("file", "name"), TWO)
@pytest.mark.parametrize("rank", [0, 1])
def test_two_processes_as_published(file, name, rank, two_processes):
    assert_as_published(found_by(rank, two_processes, f"{file}/{name}"), golden(file), f"{name}/rank{rank}")


# -- two processes -----------------------------------------------------------------------------------------------------


def test_two_processes_that_gather_equal_one(two_processes):
    whole = terms_and_gradient(golden(FILES[0]), VIEWS[FILES[0]], {})
    halves = [found_by(rank, two_processes, "all") for rank in range(2)]
    for half in halves:
        assert largest_difference(half["rate"], whole["rate"]) <= 1e-6
    assert largest_difference((halves[0]["loss"] + halves[1]["loss"]) / 2, whole["loss"]) <= 1e-6
    together = torch.cat([half["student_grad"] for half in halves], dim=1) / 2  # the mean over the processes
    assert largest_difference(together, whole["student_grad"]) <= 1e-6


def test_local_and_none_differ_by_what_they_count(two_processes):
    """Local: this process's features at the precision W eps^2, and W B in gamma. None: W = 1."""
    expected, views = golden(FILES[0]), VIEWS[FILES[0]]
    for rank in range(2):
        student, teacher = (
            of_rank(expected[who], count, rank, 2) for who, count in (("student", views), ("teacher", 2))
        )
        count, width = student.shape[1:]
        alone = distillation_terms(student, teacher, 0.05, rate_gamma="per_dimension")
        coarse = distillation_terms(student, teacher, 0.10, rate_gamma="per_dimension")
        assert largest_difference(two_processes[rank]["none/rate"], alone.rate * (1 + width / count)) <= 1e-6
        assert largest_difference(two_processes[rank]["local/rate"], coarse.rate * (1 + width / (2 * count))) <= 1e-6


# -- closed forms ------------------------------------------------------------------------------------------------------

VIEWS_OF_STUDENT, BATCH, WIDTH = 5, 7, 11


def unit(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(torch.randn(*shape, dtype=torch.float64, generator=generator), dim=-1)


def features():
    return unit(VIEWS_OF_STUDENT, BATCH, WIDTH), unit(2, BATCH, WIDTH, seed=1)


@pytest.mark.parametrize("rate_of", ["student", "mean"])
@pytest.mark.parametrize(("gamma", "value"), [("paper", 1 / WIDTH + 1 / BATCH), ("per_dimension", 1 / WIDTH)])
def test_features_of_one_direction(rate_of, gamma, value):
    """G = B u u^T has one eigenvalue: r = gamma / 2 log(1 + d / eps^2), the least that unit features can have."""
    one = unit(WIDTH)
    terms = distillation_terms(
        one.expand(VIEWS_OF_STUDENT, BATCH, WIDTH), one.expand(2, BATCH, WIDTH), 0.3, rate_of=rate_of, rate_gamma=gamma
    )
    assert terms.rate.item() == pytest.approx(value / 2 * math.log(1 + WIDTH / 0.3))
    assert terms.alignment.item() == pytest.approx(1)
    assert terms.loss.item() == pytest.approx(-1 - terms.rate.item())


def test_features_of_all_directions():
    """d orthonormal features: r = gamma d/2 log(1 + 1 / eps^2), the most that unit features can have."""
    basis = torch.linalg.qr(torch.randn(WIDTH, WIDTH, dtype=torch.float64)).Q
    found = distillation_terms(basis.expand(3, WIDTH, WIDTH), basis.expand(2, WIDTH, WIDTH), 0.3)
    assert found.rate.item() == pytest.approx(2 / WIDTH * WIDTH / 2 * math.log(1 + 1 / 0.3))
    spread = distillation_terms(unit(3, WIDTH, WIDTH), unit(2, WIDTH, WIDTH), 0.3, rate_of="student")
    assert spread.rate < found.rate


def test_the_mean_of_opposite_features_has_no_rate():
    student, _ = features()
    terms = distillation_terms(student, -student[:2])
    assert terms.rate.item() == pytest.approx(0, abs=1e-12)
    assert distillation_terms(student, -student[:2], rate_of="student").rate > 0.1


def test_every_pair_of_different_views_is_aligned_once():
    student, teacher = features()
    pairs = [(teacher[t] * student[s]).sum(-1).mean() for t in range(2) for s in range(VIEWS_OF_STUDENT) if s != t]
    assert len(pairs) == 2 * VIEWS_OF_STUDENT - 2
    terms = distillation_terms(student, teacher, alignment_weight=3.0)
    torch.testing.assert_close(terms.alignment, torch.stack(pairs).mean())
    torch.testing.assert_close(terms.loss, -3 * terms.alignment - terms.rate)


def test_the_rate_is_coding_rate_of_the_root_of_epsilon_squared():
    student, teacher = features()
    terms = distillation_terms(student, teacher, 0.09, rate_of="student", rate_gamma="per_dimension")
    torch.testing.assert_close(terms.rate, coding_rate(student[:2], epsilon=0.3).mean() / WIDTH)


def test_the_gradient_reaches_the_student_alone():
    student, teacher = (views.requires_grad_() for views in features())
    distillation_terms(student, teacher).loss.backward()
    assert teacher.grad is None
    assert (student.grad.abs().sum(dim=(1, 2)) > 0).all()


def test_a_normalised_alignment_has_no_gradient_along_a_feature():
    for normalize in (True, False):
        student, teacher = features()
        terms = distillation_terms(student.requires_grad_(), teacher, normalize_alignment=normalize)
        terms.alignment.backward()
        along = (student.grad * student).sum(-1).abs().max()
        assert (along < 1e-12) == normalize


def test_gradients():
    student, teacher = unit(3, 4, 5), unit(2, 4, 5, seed=1)
    for rate_of in ("student", "mean"):
        assert torch.autograd.gradcheck(
            lambda z, of=rate_of: distillation_terms(z, teacher, rate_of=of).loss, student.requires_grad_()
        )


def test_half_precision_and_autocast_are_computed_in_float32():
    student, teacher = (views.bfloat16() for views in features())
    terms = distillation_terms(student, teacher)
    assert {term.dtype for term in terms} == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        again = distillation_terms(student.float(), teacher.float())
    torch.testing.assert_close(again, terms)


@pytest.mark.parametrize(
    ("shapes", "keywords", "message"),
    [
        (((1, 3, 5), (1, 3, 5)), {}, "S >= 2"),
        (((2, 3, 5), (3, 3, 5)), {}, "S >= V"),
        (((3, 3, 5), (2, 4, 5)), {}, r"got \(3, 3, 5\) and \(2, 4, 5\)"),
        (((3, 0, 5), (2, 0, 5)), {}, "at least one picture"),
        (((15, 5), (6, 5)), {}, "one view after the other"),
        (((3, 3, 5), (2, 3, 5)), {"epsilon_squared": 0.0}, "epsilon_squared must be finite and positive"),
        (((3, 3, 5), (2, 3, 5)), {"alignment_weight": -1.0}, "alignment_weight must be"),
        (((3, 3, 5), (2, 3, 5)), {"rate_of": "teacher"}, "rate_of must be one of student, mean"),
        (((3, 3, 5), (2, 3, 5)), {"rate_gamma": "d"}, "rate_gamma must be one of paper"),
        (((3, 3, 5), (2, 3, 5)), {"rate_gather": "sum"}, "rate_gather must be one of all, local, none"),
    ],
)
def test_errors_say_what_is_wrong(shapes, keywords, message):
    with pytest.raises(ValueError, match=message):
        distillation_terms(torch.ones(shapes[0]), torch.ones(shapes[1]), **keywords)
