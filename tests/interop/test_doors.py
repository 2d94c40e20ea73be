"""Other libraries on a real model; each test is of a package, and is left out where that is not installed."""

import json
import math
import runpy
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
from typer.testing import CliRunner
from zoo import build, decoder_config, text_model, token_ids, vision_model

from crate_transformers import CrateForCausalLM, crate_lora_config
from crate_transformers.cli.app import app
from crate_transformers.errors import UserError
from crate_transformers.interop.doors.lm_eval import evaluate_tasks
from crate_transformers.interop.doors.nnsight import NNSIGHT_NAMES
from crate_transformers.models.image_processing import image_processor_of

EXAMPLES = Path(__file__).parents[2] / "examples"
CONTEXT = 64
# what these libraries warn of each other and of transformers; nothing of it is of this one
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def byte_tokenizer():
    """A byte is a token."""
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokens = Tokenizer(models.BPE(letters, []))
    tokens.pre_tokenizer, tokens.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokens, eos_token="<end>", pad_token="<end>")


@pytest.fixture(scope="module")
def language_model(byte_tokenizer):
    end = byte_tokenizer.eos_token_id
    sizes = {"vocab_size": len(byte_tokenizer), "max_position_embeddings": CONTEXT}
    return build(CrateForCausalLM, decoder_config(**sizes, eos_token_id=end, bos_token_id=end))


@pytest.fixture(scope="module")
def folder(language_model, byte_tokenizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("language") / "model"
    language_model.save_pretrained(path)
    byte_tokenizer.save_pretrained(path)
    return path


QUESTIONS = [
    {"question": "a b", "choices": [" c", " d e"], "answer": 0},
    {"question": "x", "choices": [" yy", " z", " w"], "answer": 2},
    {"question": "in the end", "choices": [" it is", " so"], "answer": 1},
]
TEXTS = ["some text here", "other words " * 20]  # one longer than the context
TASK = """task: {name}
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: {kind}
doc_to_text: {text}
doc_to_target: {target}
metric_list:
  - metric: {metric}
"""


@pytest.fixture(scope="module")
def task_files(tmp_path_factory):
    path = tmp_path_factory.mktemp("tasks")
    for name, rows in (("questions", QUESTIONS), ("texts", [{"text": text} for text in TEXTS])):
        (path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    choice = {"name": "tiny_choice", "data": path / "questions.jsonl", "kind": "multiple_choice", "metric": "acc"}
    choice |= {"text": '"{{question}}"', "target": "answer\ndoc_to_choice: choices"}
    text = {"name": "tiny_text", "data": path / "texts.jsonl", "kind": "loglikelihood_rolling", "text": '""'}
    text |= {"target": '"{{text}}"', "metric": "bits_per_byte"}
    for task in (choice, text):
        (path / f"{task['name']}.yaml").write_text(TASK.format(**task))
    return path


@torch.no_grad()
def log_likelihood(model, tokenizer, context, continuation):
    """The sum over the tokens of a continuation, by hand."""
    before = tokenizer(context)["input_ids"] if context else [tokenizer.eos_token_id]
    after = tokenizer(continuation)["input_ids"]
    logits = model(torch.tensor([before + after])).logits[0].log_softmax(dim=-1)
    return sum(logits[len(before) - 1 + place, token].item() for place, token in enumerate(after))


@pytest.mark.doors("lm_eval")
def test_tasks_of_lm_eval_from_local_files(language_model, byte_tokenizer, folder, task_files, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    expected = 0
    for row in QUESTIONS:
        scores = [log_likelihood(language_model, byte_tokenizer, row["question"], choice) for choice in row["choices"]]
        expected += scores.index(max(scores)) == row["answer"]
    found = evaluate_tasks(language_model, byte_tokenizer, ["tiny_choice", "tiny_text"], task_files)
    assert found["tiny_choice"]["acc,none"] == pytest.approx(expected / len(QUESTIONS))
    assert found["tiny_choice"]["samples"] == len(QUESTIONS)
    first = evaluate_tasks(language_model, byte_tokenizer, ["tiny_text"], task_files, limit=1)["tiny_text"]
    bits = -log_likelihood(language_model, byte_tokenizer, "", TEXTS[0]) / math.log(2) / len(TEXTS[0])
    assert first["bits_per_byte,none"] == pytest.approx(bits, rel=1e-4)
    assert first["samples"] == 1
    arguments = ["evaluate", str(folder), "--tasks", "tiny_choice,tiny_text", "--include-path", str(task_files)]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert told.exit_code == 0, told.output
    by_command = json.loads(told.stdout[told.stdout.index("{") : told.stdout.rindex("}") + 1])
    assert by_command["tiny_text"]["bits_per_byte,none"] == pytest.approx(found["tiny_text"]["bits_per_byte,none"])


@pytest.mark.doors("lm_eval")
def test_unknown_tasks_are_named(language_model, byte_tokenizer, task_files):
    with pytest.raises(UserError, match="no_such: not a task of lm-eval and not in"):
        evaluate_tasks(language_model, byte_tokenizer, ["tiny_choice", "no_such"], task_files)


def test_what_tasks_refuse(language_model, byte_tokenizer, folder, tmp_path, monkeypatch):
    for options, reason in (
        ({"batch_size": 0}, "at least 1"),
        ({"limit": 0}, "at least 1"),
        ({"include_path": tmp_path / "none"}, "no folder of task files"),
    ):
        with pytest.raises(UserError, match=reason):
            evaluate_tasks(language_model, byte_tokenizer, ["tiny"], **options)
    monkeypatch.setitem(__import__("sys").modules, "lm_eval", None)
    with pytest.raises(ImportError, match=r"pip install 'crate-transformers\[lm-eval\]'"):
        evaluate_tasks(language_model, byte_tokenizer, ["tiny"])
    for arguments, reason in (
        (["--limit", "3"], "are of --tasks"),
        (["--tasks", "tiny", "--data", "digits"], "have their own data"),
    ):
        with pytest.raises(UserError, match=reason):
            CliRunner().invoke(app, ["evaluate", str(folder), *arguments], catch_exceptions=False)


@pytest.mark.doors("nnsight")
def test_nnsight_reads_and_edits():
    from nnsight import NNsight

    model, ids = text_model(True), token_ids()
    expected = model(ids, output_codes=True)
    seen = NNsight(model, rename=NNSIGHT_NAMES)
    layer = seen.crate.layers[0]
    with seen.trace(ids):
        way_back = layer.compression.attention.output_map.output.save()
        codes = layer.sparsification.coding.output.save()
    assert way_back.shape == (*ids.shape, model.config.hidden_size)
    assert torch.equal(codes, expected.codes[0])
    with seen.trace(ids):
        layer.sparsification.coding.output[:] = 0
        logits = seen.lm_head.output.save()
    assert not torch.allclose(logits, expected.logits, atol=1e-3)
    assert torch.equal(model(ids).logits, expected.logits)


@pytest.mark.doors("captum")
def test_integrated_gradients(tmp_path, capsys):
    model = vision_model()
    model.save_pretrained(tmp_path)
    image_processor_of(model.config).save_pretrained(tmp_path)
    torch.manual_seed(0)
    attributions = runpy.run_path(str(EXAMPLES / "attributions.py"))["main"](str(tmp_path))
    assert attributions.shape == (4, model.config.num_channels, *model.config.image_size)
    lines = capsys.readouterr().out.splitlines()
    gaps = [float(line.rpartition("the sum is ")[2].split()[0]) for line in lines]
    assert len(gaps) == 4
    assert max(gaps) < 0.2 * attributions.abs().sum(dim=(1, 2, 3)).min().item()


def trl_run(trainer, config, folder, output, data, **options):
    import datasets

    settings = {"max_steps": 2, "per_device_train_batch_size": 2, "learning_rate": 0.01, "max_length": 32}
    arguments = config(output_dir=str(output), report_to=[], use_cpu=True, bf16=False, logging_steps=1, **settings)
    made = trainer(model=str(folder), args=arguments, train_dataset=datasets.Dataset.from_dict(data), **options)
    made.train()
    losses = [entry["loss"] for entry in made.state.log_history if "loss" in entry]
    assert len(losses) == 2
    assert all(map(math.isfinite, losses))
    made.save_model(str(output / "model"))
    return made


SENTENCES = {"text": ["some text here", "other words and more"] * 4}
PREFERENCES = {
    "prompt": ["a b", "c d"] * 4,
    "chosen": [" good", " fine"] * 4,
    "rejected": [" bad", " worse"] * 4,
}


@pytest.mark.doors("trl")
def test_trl_by_path(folder, language_model, tmp_path):
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    for name, trainer, config, data in (
        ("sft", SFTTrainer, SFTConfig, SENTENCES),
        ("dpo", DPOTrainer, DPOConfig, PREFERENCES),
    ):
        trl_run(trainer, config, folder, tmp_path / name, data)
        trained = AutoModelForCausalLM.from_pretrained(tmp_path / name / "model")
        assert isinstance(trained, CrateForCausalLM)
        before, after = language_model.state_dict(), trained.state_dict()
        assert any(not torch.equal(before[key], after[key]) for key in before)


@pytest.mark.doors("trl")
def test_trl_with_adapters(folder, language_model, tmp_path):
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer

    lora = crate_lora_config(language_model, rank=4, dictionaries=True)
    for name, trainer, config, data in (
        ("sft", SFTTrainer, SFTConfig, SENTENCES),
        ("dpo", DPOTrainer, DPOConfig, PREFERENCES),
    ):
        made = trl_run(trainer, config, folder, tmp_path / name, data, peft_config=lora)
        moved = [part for part, weight in made.model.named_parameters() if "lora_B" in part and weight.abs().max() > 0]
        assert len(moved) == 6
        assert (tmp_path / name / "model" / "adapter_model.safetensors").is_file()


@pytest.mark.doors("sae_lens")
def test_saelens_hooks_codes_of_a_folder(folder, language_model):
    from sae_lens.load_model import load_model

    hooked = load_model("AutoModelForCausalLM", str(folder))
    ids, name = torch.arange(12)[None], "crate.layers.0.sparsification.coding"
    logits, kept = hooked.run_with_cache(ids, names_filter=[name])
    with torch.no_grad():
        outputs = language_model(ids, output_codes=True)
    assert (logits - outputs.logits).abs().max() <= 1e-6
    assert (kept[name] - outputs.codes[0]).abs().max() <= 1e-6
