"""Which parameters weight decay shrinks: as transformers' Trainer says, less every scale."""

import warnings

import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments, ViTConfig, ViTModel

from crate_transformers import CrateForImageClassification, CrateVisionConfig, CrateVisionModel
from crate_transformers.models.self_distillation import SelfDistillation
from crate_transformers.training.trainer import CrateTrainer

SIZES = {"hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 3, "image_size": 8, "patch_size": 4}
BACKBONES = {
    "crate": lambda: CrateVisionModel(CrateVisionConfig(**SIZES)),
    "vit": lambda: ViTModel(ViTConfig(**SIZES, intermediate_size=48)),
}


def groups(model, folder):
    """(names that decay, names that do not) of what an optimizer of a run trains."""
    options = TrainingArguments(output_dir=str(folder), weight_decay=0.3, use_cpu=True, report_to=[])
    optimizer = CrateTrainer(model=model, args=options).create_optimizer()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decays, stays = ({names[id(p)] for p in group["params"]} for group in optimizer.param_groups)
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0]
    return decays, stays


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
@pytest.mark.parametrize("loss", ["dino", "coding_rate"])
def test_scales_of_the_self_distillation_head_do_not_decay(tmp_path, backbone, loss):
    model = SelfDistillation(BACKBONES[backbone](), loss, 37, 29, 16, head_batch_norm=True)
    decays, stays = groups(model, tmp_path)
    trained = dict(model.named_parameters())
    assert {name for name in decays if trained[name].ndim < 2} == set()
    scales = {name for name, part in model.student_head.named_modules() if isinstance(part, nn.BatchNorm1d)}
    assert len(scales) == 2
    assert {f"student_head.{name}.weight" for name in scales} <= stays
    of_transformers = set(Trainer.get_decay_parameter_names(CrateTrainer, model)) & (decays | stays)
    assert of_transformers - decays == {f"student_head.{name}.weight" for name in scales}  # and nothing else changed


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_without_batch_norm_it_is_transformers_rule(tmp_path, backbone):
    model = BACKBONES[backbone]()
    decays, stays = groups(model, tmp_path)
    assert decays == set(Trainer.get_decay_parameter_names(CrateTrainer, model)) & (decays | stays)
    assert any("cls_token" in name for name in decays)
    assert any("position" in name for name in decays)


def test_magnitudes_of_weight_norm_do_not_decay(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's older weight norm, which lightly uses
        model = nn.ModuleDict(
            {
                "older": nn.utils.weight_norm(nn.Linear(3, 5)),
                "newer": nn.utils.parametrizations.weight_norm(nn.Linear(3, 5)),
                "none": nn.ParameterDict({"scale": nn.Parameter(torch.ones(7)), "map": nn.Parameter(torch.ones(2, 7))}),
            }
        )
    decays, _ = groups(model, tmp_path)
    assert decays == {"older.weight_v", "newer.parametrizations.weight.original1", "none.map"}


def test_kernels_alone(tmp_path):
    fields = {"dictionary_ratio": 4, "tie_dictionary": False, "patch_embedding": "convolution"}
    model = CrateForImageClassification(CrateVisionConfig(**SIZES, **fields))
    options = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, report_to=[])
    decays = CrateTrainer(model=model, args=options, decays="kernels").get_decay_parameter_names(model)
    layer = "crate.layers.0.compression.attention"
    assert set(decays) == {
        "crate.embeddings.patch_embeddings.projection.weight",
        f"{layer}.subspaces.weight",
        f"{layer}.output.weight",
        "classifier.weight",
    }
    every = CrateTrainer(model=model, args=options).get_decay_parameter_names(model)
    assert {"crate.layers.0.sparsification.coding.dictionary", "crate.embeddings.cls_token"} <= set(every)
