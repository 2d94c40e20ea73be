"""The text models: both shells, all heads, padding, records, precisions, saving, errors."""

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForMultipleChoice,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from zoo import (
    BATCH,
    HEADS,
    LAYERS,
    SHELLS,
    TOKENS,
    VOCABULARY,
    WIDTH,
    build,
    decoder_config,
    enable_checkpointing,
    encoder_config,
    gradients,
    token_ids,
)

from crate_transformers import (
    CrateConfig,
    CrateForCausalLM,
    CrateForMaskedLM,
    CrateForMultipleChoice,
    CrateForQuestionAnswering,
    CrateForSequenceClassification,
    CrateForTokenClassification,
    CrateModel,
)

CHOICES = 3
HEADED = {
    CrateForMaskedLM: (AutoModelForMaskedLM, {"labels": token_ids(seed=1)}, (BATCH, TOKENS, VOCABULARY)),
    CrateForCausalLM: (AutoModelForCausalLM, {"labels": token_ids(seed=1)}, (BATCH, TOKENS, VOCABULARY)),
    CrateForSequenceClassification: (
        AutoModelForSequenceClassification,
        {"labels": torch.tensor([4, 0])},
        (BATCH, 5),
    ),
    CrateForTokenClassification: (
        AutoModelForTokenClassification,
        {"labels": torch.arange(BATCH * TOKENS).view(BATCH, TOKENS) % 5},
        (BATCH, TOKENS, 5),
    ),
    CrateForMultipleChoice: (AutoModelForMultipleChoice, {"labels": torch.tensor([2, 0])}, (BATCH, CHOICES)),
    CrateForQuestionAnswering: (
        AutoModelForQuestionAnswering,
        {"start_positions": torch.tensor([1, 2]), "end_positions": torch.tensor([3, 6])},
        (BATCH, TOKENS),
    ),
}
SHELL_NAMES = list(SHELLS)


def inputs_of(model_class):
    if model_class is CrateForMultipleChoice:
        return {"input_ids": token_ids(BATCH * CHOICES).view(BATCH, CHOICES, TOKENS)}
    return {"input_ids": token_ids()}


@pytest.mark.parametrize("shell", SHELL_NAMES)
@pytest.mark.parametrize("model_class", HEADED)
def test_each_head_on_each_shell(model_class, shell, tmp_path):
    auto_class, labels, shape = HEADED[model_class]
    model = build(model_class, SHELLS[shell](num_labels=5))
    inputs = inputs_of(model_class)
    plain = gradients(model.train(), **inputs, **labels)
    idle = {name for name, gradient in plain.items() if not gradient.any()}
    # a bias that all choices, or all places, share: softmax does not see it
    shared = {CrateForMultipleChoice: {"classifier.bias"}, CrateForQuestionAnswering: {"qa_outputs.bias"}}
    assert idle <= shared.get(model_class, set())
    enable_checkpointing(model)
    for name, gradient in gradients(model, **inputs, **labels).items():
        torch.testing.assert_close(gradient, plain[name], msg=name)

    model.eval().save_pretrained(tmp_path)
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    assert type(auto_class.from_pretrained(tmp_path)) is model_class
    with torch.no_grad():
        ours, theirs = model(**inputs), loaded(**inputs, return_dict=False)
    first = ours[0]
    assert first.shape == shape
    torch.testing.assert_close(theirs[0], first)


@pytest.mark.filterwarnings(
    "ignore:flex_attention called without torch.compile", "ignore:_compile flag on create_block_mask"
)
@pytest.mark.parametrize("attention", ["sdpa", "eager", "flex_attention"])
@pytest.mark.parametrize("model_class", [CrateForSequenceClassification, CrateForMultipleChoice])
@torch.no_grad()
def test_an_encoder_that_reads_the_first_token_makes_no_other_unless_a_hook_looks(model_class, attention, monkeypatch):
    model = build(model_class, encoder_config(head_dim=16), attn_implementation=attention)
    inputs, made = inputs_of(model_class), []
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["attention_mask"][1, ..., 3:] = 0
    sparsify = model.crate.layers[-1].sparsification.forward
    monkeypatch.setattr(
        model.crate.layers[-1].sparsification, "forward", lambda half: made.append(half.shape[1]) or sparsify(half)
    )
    with torch.compiler.set_stance("force_eager"):  # flex's kernel takes a minute to compile on a CPU
        logits = model(**inputs).logits
        model.crate.norm.register_forward_hook(lambda part, inputs, output: None)
        torch.testing.assert_close(model(**inputs).logits, logits)
    assert made == [TOKENS if attention == "flex_attention" else 1, TOKENS]  # flex's mask is of all tokens


@pytest.mark.parametrize("shell", SHELL_NAMES)
@torch.no_grad()
def test_what_is_recorded(shell):
    config = SHELLS[shell]()
    model = build(CrateModel, config, attn_implementation="eager")
    records = ("hidden_states", "attentions", "half_hidden_states", "subspace_projections", "codes")
    outputs = model(token_ids(), **{f"output_{name}": True for name in records})
    assert [len(outputs[name]) for name in records] == [LAYERS + 1, LAYERS, LAYERS, LAYERS, LAYERS]
    assert {state.shape for state in outputs.hidden_states} == {(BATCH, TOKENS, WIDTH)}
    assert {weights.shape for weights in outputs.attentions} == {(BATCH, HEADS, TOKENS, TOKENS)}
    assert outputs.codes[0].shape == (BATCH, TOKENS, WIDTH * config.dictionary_ratio)
    torch.testing.assert_close(outputs.hidden_states[-1], outputs.last_hidden_state)
    is_causal = not outputs.attentions[0].triu(1).any()
    assert is_causal == config.is_decoder


@torch.no_grad()
def test_the_future_is_not_seen():
    for shell in SHELL_NAMES:
        model = build(CrateForCausalLM, SHELLS[shell]())
        ids = token_ids()
        changed = ids.clone()
        changed[:, -1] = 50
        torch.testing.assert_close(model(changed).logits[:, :-1], model(ids).logits[:, :-1])
        assert not torch.allclose(model(changed).logits[:, -1], model(ids).logits[:, -1])
    encoder = build(CrateForMaskedLM, encoder_config())
    assert not torch.allclose(encoder(changed).logits[:, :-1], encoder(ids).logits[:, :-1])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("shell", SHELL_NAMES)
@torch.no_grad()
def test_padding_changes_nothing(shell, side, attention):
    config = SHELLS[shell](pad_token_id=1)
    models = [build(CrateForCausalLM, config, attn_implementation=attention)]
    models += [build(CrateForMaskedLM, config, attn_implementation=attention)] * (shell == "encoder")
    ids, padding = token_ids(), torch.ones(BATCH, 4, dtype=torch.long)
    parts, masks = [ids, padding], [torch.ones_like(ids), torch.zeros_like(padding)]
    if side == "left":
        parts, masks = parts[::-1], masks[::-1]
    real = slice(4, None) if side == "left" else slice(None, TOKENS)
    for model in models:
        padded = model(torch.cat(parts, dim=1), attention_mask=torch.cat(masks, dim=1)).logits
        torch.testing.assert_close(padded[:, real], model(ids).logits, atol=1e-5, rtol=1e-5)
        assert torch.isfinite(padded).all()


@torch.no_grad()
def test_the_decoders_classifier_reads_the_last_real_token():
    model = build(CrateForSequenceClassification, decoder_config(pad_token_id=1, num_labels=5))
    ids, padding = token_ids(), torch.ones(BATCH, 4, dtype=torch.long)
    expected = model(ids).logits
    for parts in ([ids, padding], [padding, ids]):
        padded = torch.cat(parts, dim=1)
        torch.testing.assert_close(model(padded, attention_mask=padded.ne(1).long()).logits, expected)
    torch.testing.assert_close(model(torch.cat([ids, padding], dim=1)).logits, expected)  # pads found by their id


@pytest.mark.parametrize("shell", SHELL_NAMES)
@torch.no_grad()
def test_a_choice_is_scored_by_all_of_its_tokens_and_by_no_padding(shell):
    model = build(CrateForMultipleChoice, SHELLS[shell](pad_token_id=1))
    choices = torch.stack([token_ids(), token_ids()], dim=1)  # (B, 2, T)
    choices[:, 1, -1] = choices[:, 0, -1] % (VOCABULARY - 5) + 4  # they differ in their last token alone
    scores = model(choices).logits
    assert ((scores[:, 0] - scores[:, 1]).abs() > 1e-6).all()
    padded = torch.nn.functional.pad(choices, (0, 3), value=1)
    torch.testing.assert_close(model(padded, attention_mask=padded.ne(1).long()).logits, scores)


@pytest.mark.parametrize("shell", SHELL_NAMES)
@torch.no_grad()
def test_a_row_of_padding_stays_finite_and_a_batch_of_it_is_refused(shell):
    for attention in ("eager", "sdpa"):
        model = build(CrateModel, SHELLS[shell](pad_token_id=1), attn_implementation=attention)
        ids = torch.ones(BATCH, TOKENS, dtype=torch.long)
        mask = torch.zeros_like(ids)
        with pytest.raises(ValueError, match=rf"all padding: attention_mask \({BATCH}, {TOKENS}\)"):
            model(ids, attention_mask=mask)
        mask[0], ids[0] = 1, 5
        assert torch.isfinite(model(ids, attention_mask=mask).last_hidden_state).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@torch.no_grad()
def test_half_precision_is_close(dtype):
    for shell in SHELL_NAMES:
        model = build(CrateModel, SHELLS[shell](initializer_range=0.1))
        expected = model(token_ids()).last_hidden_state
        half = model.to(dtype)(token_ids()).last_hidden_state
        assert half.dtype == dtype
        torch.testing.assert_close(half.float(), expected, atol=0.02 if dtype == torch.float16 else 0.2, rtol=0)


@torch.no_grad()
def test_embeddings_instead_of_ids():
    for shell in SHELL_NAMES:
        model = build(CrateModel, SHELLS[shell]())
        embeddings = model.get_input_embeddings()(token_ids())
        torch.testing.assert_close(
            model(inputs_embeds=embeddings).last_hidden_state, model(token_ids()).last_hidden_state
        )
        padded = token_ids()
        padded[0, 4:], padded[1, 2] = model.config.pad_token_id or 0, model.config.pad_token_id or 0
        from_embeddings = model(inputs_embeds=model.get_input_embeddings()(padded)).last_hidden_state
        assert torch.equal(from_embeddings, model(padded).last_hidden_state)
    for wrong in ({}, {"input_ids": token_ids(), "inputs_embeds": embeddings}):
        with pytest.raises(ValueError, match="exactly one"):
            model(**wrong)


def test_ids_outside_their_tables_are_named():
    model = build(CrateModel, SHELLS["encoder"]())
    for wrong, message in (
        ({"position_ids": torch.full((2, 7), 37)}, "position_ids holds 37, outside the table of 37 rows"),
        ({"token_type_ids": torch.full((2, 7), 2)}, "token_type_ids holds 2, outside the table of 2 rows"),
        ({"input_ids": torch.zeros(2, 0, dtype=torch.long)}, "no token"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**{"input_ids": token_ids(), **wrong})


@torch.no_grad()
def test_token_types_and_positions_take_part():
    model = build(CrateModel, encoder_config())
    plain = model(token_ids()).last_hidden_state
    zeros, counted = torch.zeros(BATCH, TOKENS, dtype=torch.long), torch.arange(2, TOKENS + 2).expand(BATCH, -1)
    torch.testing.assert_close(model(token_ids(), token_type_ids=zeros).last_hidden_state, plain)
    torch.testing.assert_close(model(token_ids(), position_ids=counted).last_hidden_state, plain)
    assert not torch.allclose(model(token_ids(), token_type_ids=zeros + 1).last_hidden_state, plain)
    assert not torch.allclose(model(token_ids(), position_ids=counted.flip(1)).last_hidden_state, plain)


@pytest.mark.parametrize("shell", SHELL_NAMES)
@pytest.mark.parametrize("model_class", [CrateForMaskedLM, CrateForCausalLM])
def test_tied_weights_and_resized_embeddings(model_class, shell, tmp_path):
    model = build(model_class, SHELLS[shell]())
    embedding, decoder = model.get_input_embeddings(), model.get_output_embeddings()
    assert decoder.weight is embedding.weight
    with torch.no_grad():
        before = model(token_ids()).logits
    model.resize_token_embeddings(VOCABULARY + 6, mean_resizing=False)
    assert model.config.vocab_size == model.get_output_embeddings().out_features == VOCABULARY + 6
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    with torch.no_grad():
        after = model(token_ids()).logits
    torch.testing.assert_close(after[..., :VOCABULARY], before)
    model.save_pretrained(tmp_path)
    loaded, info = model_class.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    with torch.no_grad():
        torch.testing.assert_close(loaded(token_ids()).logits, after)
    loss = model(token_ids() + 6, labels=token_ids() + 6).loss
    assert torch.isfinite(loss)


@pytest.mark.parametrize("shell", SHELL_NAMES)
def test_untied_embeddings(shell, tmp_path):
    model = build(CrateForCausalLM, SHELLS[shell](tie_word_embeddings=False))
    assert model.get_output_embeddings().weight is not model.get_input_embeddings().weight
    with torch.no_grad():
        model.get_output_embeddings().weight.add_(1)
    model.save_pretrained(tmp_path)
    loaded = CrateForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(loaded.get_output_embeddings().weight, model.get_output_embeddings().weight)
    with torch.no_grad():
        torch.testing.assert_close(loaded(token_ids()).logits, model(token_ids()).logits)


def test_a_backbone_loads_into_a_head(tmp_path):
    backbone = build(CrateModel, encoder_config())
    backbone.save_pretrained(tmp_path)
    classifier = CrateForTokenClassification.from_pretrained(tmp_path, num_labels=5)
    for name, parameter in classifier.crate.named_parameters():
        assert torch.equal(parameter, backbone.get_parameter(name)), name


@pytest.mark.parametrize(
    ("problem", "labels", "num_labels"),
    [
        ("multi_label_classification", torch.tensor([[1.0, 0, 1], [0, 0, 1]]), 3),
        ("regression", torch.tensor([0.5, -2.0]), 1),
        (None, torch.tensor([0.5, -2.0]), 1),
    ],
)
def test_other_problem_types(problem, labels, num_labels):
    model = build(CrateForSequenceClassification, encoder_config(problem_type=problem, num_labels=num_labels))
    outputs = model(token_ids(), labels=labels)
    expected = (
        torch.nn.functional.mse_loss(outputs.logits.squeeze(-1), labels)
        if num_labels == 1
        else torch.nn.functional.binary_cross_entropy_with_logits(outputs.logits, labels)
    )
    torch.testing.assert_close(outputs.loss, expected)


def test_the_causal_loss_is_shifted_and_ignores_minus_100():
    model, ids = build(CrateForCausalLM, decoder_config()), token_ids()
    labels = ids.clone()
    labels[0, :3] = -100
    outputs = model(ids, labels=labels)
    expected = torch.nn.functional.cross_entropy(outputs.logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    torch.testing.assert_close(outputs.loss, expected)
    torch.testing.assert_close(model(ids, logits_to_keep=2).logits, outputs.logits[:, -2:])


@pytest.mark.parametrize(
    ("model_class", "inputs", "message"),
    [
        (CrateModel, {"input_ids": torch.tensor([[5, 101]])}, "token id 101 .* vocabulary of 101"),
        (CrateModel, {"input_ids": torch.tensor([[5, -1]])}, "token id -1"),
        (CrateModel, {"input_ids": token_ids(1, 36)}, "36 tokens is longer than the context of 35"),
        (CrateForMaskedLM, {"input_ids": token_ids(), "labels": token_ids() + 90}, r"labels must be in \[0, 101\)"),
        (CrateForCausalLM, {"input_ids": token_ids(), "labels": token_ids() - 90}, "labels must be"),
        (CrateForSequenceClassification, {"input_ids": token_ids(), "labels": torch.tensor([5, 0])}, "got 5"),
        (CrateForTokenClassification, {"input_ids": token_ids(), "labels": token_ids()}, r"\[0, 5\)"),
        (
            CrateForMultipleChoice,
            {"input_ids": token_ids(6).view(2, 3, TOKENS), "labels": torch.tensor([3, 0])},
            r"\[0, 3\).*got 3",
        ),
        (CrateForMultipleChoice, {}, "exactly one"),
    ],
)
def test_what_does_not_fit_is_named(model_class, inputs, message):
    with pytest.raises(ValueError, match=message):
        build(model_class, encoder_config(num_labels=5))(**inputs)


@pytest.mark.filterwarnings(
    "ignore:flex_attention called without torch.compile", "ignore:_compile flag on create_block_mask"
)
@pytest.mark.parametrize("shell", ["encoder", "gpt"])
@torch.no_grad()
def test_flex_attention_equals_eager(shell):
    model = build(CrateModel, SHELLS[shell](pad_token_id=1, hidden_size=32, num_attention_heads=2, head_dim=16))
    ids = torch.cat([torch.ones(BATCH, 4, dtype=torch.long), token_ids()], dim=1)
    ids[1] = token_ids(1, 4 + TOKENS)[0]
    mask = ids.ne(1).long()
    model.set_attn_implementation("eager")
    expected = model(ids, attention_mask=mask).last_hidden_state
    model.set_attn_implementation("flex_attention")
    with torch.compiler.set_stance("force_eager"):  # its kernel takes a minute to compile on a CPU
        given = model(ids, attention_mask=mask).last_hidden_state
    torch.testing.assert_close(given[mask.bool()], expected[mask.bool()])


@torch.no_grad()
def test_compiles_as_one_graph_and_exports_with_any_batch():
    torch._dynamo.reset()
    model = build(CrateForMaskedLM, encoder_config())
    mask = torch.ones(BATCH, TOKENS, dtype=torch.long)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(token_ids(), mask).logits, model(token_ids(), mask).logits)
    program = torch.export.export(
        model,
        (token_ids(3),),
        dynamic_shapes={"input_ids": {0: torch.export.Dim("batch")}},
        strict=False,
    )
    torch.testing.assert_close(program.module()(token_ids(5)).logits, model(token_ids(5)).logits)


@torch.no_grad()
def test_auto_model_and_its_config(tmp_path):
    model = build(CrateModel, encoder_config())
    model.save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is CrateModel
    assert loaded.config.to_diff_dict() == model.config.to_diff_dict()
    torch.testing.assert_close(loaded(token_ids()).pooler_output, model(token_ids()).pooler_output)


@pytest.mark.parametrize(("size", "parameters"), [("gpt2-base", 60_699_648), ("gpt2-overcomplete-base", 81_934_848)])
def test_parameter_counts_are_the_published_ones(size, parameters):
    with torch.device("meta"):
        model = CrateForCausalLM(CrateConfig.from_size(size))
    assert model.num_parameters() == parameters
