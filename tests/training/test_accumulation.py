"""Accumulated batches are one batch: a step is the mean over all that they hold, be they unequal."""

import json
import sys

import pytest
import torch
from small_runs import largest_gap, run_command
from transformers import BertConfig, BertForTokenClassification, TrainingArguments

from crate_transformers import CrateConfig, CrateForMaskedLM, CrateForTokenClassification
from crate_transformers.training import load_recipe, train
from crate_transformers.training.keyed_loader import SampleOrder
from crate_transformers.training.trainer import CrateTrainer

SIZES = {"vocab_size": 31, "hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 2}
PLAIN = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
MODELS = {
    "tokens": lambda: CrateForTokenClassification(CrateConfig(**SIZES, **PLAIN, num_labels=5)),
    "masked": lambda: CrateForMaskedLM(CrateConfig(**SIZES, **PLAIN)),
    "bert": lambda: BertForTokenClassification(BertConfig(**SIZES, **PLAIN, intermediate_size=7, num_labels=5)),
}


def rows(real):
    """A row for each entry, with so many labels that are real."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for count in real:
        labels = torch.randint(0, 5, (9,), generator=generator)
        labels[count:] = -100
        found.append({"input_ids": torch.randint(5, 31, (9,), generator=generator), "labels": labels})
    return found


def stepped(name, folder, batch, accumulation, real):
    """Weights after one step of plain descent on all the rows."""
    torch.manual_seed(0)
    model = MODELS[name]()
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        max_grad_norm=0.0,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        save_strategy="no",
        lr_scheduler_type="constant",
    )
    trainer = CrateTrainer(
        model=model,
        args=arguments,
        train_dataset=rows(real),
        order=SampleOrder(keyed=False),
        count_items=lambda batch: int((batch["labels"] != -100).sum()),
        optimizer_cls_and_kwargs=(torch.optim.SGD, {"lr": 1.0}),
    )
    trainer._get_train_sampler = lambda *_: torch.utils.data.SequentialSampler(trainer.train_dataset)
    trainer.train()
    return {key: value.detach().clone() for key, value in model.named_parameters()}, trainer.mean_loss


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("real", [(9, 9, 9, 9, 1, 1, 1, 1), (9, 1, 1, 1, 0, 0, 0, 0), (3, 3, 3, 3, 3, 3, 3, 3)])
def test_two_times_four_rows_are_eight(name, real, tmp_path):
    expected, loss = stepped(name, tmp_path, 8, 1, real)
    for batch, accumulation in ((4, 2), (2, 4)):
        found, mean = stepped(name, tmp_path, batch, accumulation, real)
        assert mean == pytest.approx(loss, rel=1e-5)
        for key, value in expected.items():
            assert (found[key] - value).abs().max() <= 1e-5, key


@pytest.mark.parametrize("batch", [1, 3, 8])
def test_an_evaluation_is_the_mean_over_its_items(batch, tmp_path):
    """However the rows, of unequal numbers of labels, are cut into batches."""
    torch.manual_seed(0)
    model, data = MODELS["tokens"](), rows((9, 1, 1, 1, 0, 4, 2))
    trainer = CrateTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path), per_device_eval_batch_size=batch, use_cpu=True, report_to=[], disable_tqdm=True
        ),
        eval_dataset=data,
        count_items=lambda batch: int((batch["labels"] != -100).sum()),
    )
    stacked = {name: torch.stack([row[name] for row in data]) for name in data[0]}
    with torch.no_grad():
        expected = model.eval()(**stacked).loss.item()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-5)


def tagged(path):
    """Sentences of very different lengths, so that halves of a batch hold different numbers of labels."""
    with path.open("w", encoding="utf-8") as file:
        for i in range(64):
            words = ["sun", "moon"] * (1 + 5 * (i % 4))
            file.write(json.dumps({"tokens": words, "tags": ["A", "B"] * (len(words) // 2)}) + "\n")
    return f"json:{path}"


def test_a_recipe_with_accumulation_and_with_two_processes(tmp_path):
    source = tagged(tmp_path / "rows.jsonl")
    settings = {
        "data.source": source,
        "data.vocab_size": 280,
        **{f"model.{name}": value for name, value in {**SIZES, **PLAIN}.items() if name != "vocab_size"},
        "model.max_position_embeddings": 130,
        "train.max_steps": 3,
        "train.optimizer": "adamw",
        "train.adam_epsilon": 0.01,  # so that the smallest gradients do not count as much as the largest
        "train.eval_steps": 3,
        "train.warmup_steps": 0,
        "train.per_device_train_batch_size": 8,
    }
    with_accumulation = {**settings, "train.per_device_train_batch_size": 4, "train.gradient_accumulation_steps": 2}
    for name, given in (("whole", settings), ("parts", with_accumulation)):
        train(load_recipe("token-classification", given), tmp_path / name)
    assert largest_gap(tmp_path / "whole", tmp_path / "parts") <= 1e-5
    halves = {**settings, "train.per_device_train_batch_size": 4}
    sets = [part for key, value in halves.items() for part in ("--set", f"{key}={value}")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    command = ["crate_transformers", "train", "token-classification", "--output", str(tmp_path / "two"), *sets]
    run = run_command([*launcher, *command])
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("report.html written to") == 1  # one process speaks
    assert largest_gap(tmp_path / "whole", tmp_path / "two") <= 1e-5
