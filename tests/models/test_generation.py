"""Generation in every mode of transformers, for each shell: the same tokens, with one tensor cached a layer."""

from copy import deepcopy

import pytest
import torch
from transformers import (
    AttentionInterface,
    AutoModelForCausalLM,
    ContinuousBatchingConfig,
    DynamicCache,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    StaticCache,
    TextIteratorStreamer,
)
from zoo import BATCH, HEAD_DIM, HEADS, LAYERS, SHELLS, TOKENS, VOCABULARY, build, decoder_config, token_ids

from crate_transformers import CrateForCausalLM, fuse
from crate_transformers.layers.compression.cache import SubspaceDynamicLayer, SubspaceStaticLayer

NEW = 6
NEVER_STOP = {"max_new_tokens": NEW, "eos_token_id": VOCABULARY, "pad_token_id": 1}  # no such token
MODES = {
    "greedy": {"do_sample": False},
    "sampling": {"do_sample": True, "top_k": 20, "temperature": 0.8, "num_return_sequences": 2},
    "beams": {"num_beams": 3, "do_sample": False},
}


@pytest.fixture(params=["encoder", "gpt", "overcomplete", "fused gpt", "fused overcomplete"])
def model(request):
    fused, _, shell = request.param.rpartition(" ")
    whole = build(CrateForCausalLM, SHELLS[shell](pad_token_id=1))
    return fuse(whole) if fused else whole


@pytest.fixture(params=SHELLS)
def plain_model(request):
    return build(CrateForCausalLM, SHELLS[request.param](pad_token_id=1))


def generate(model, ids, seed=0, **options):
    torch.manual_seed(seed)
    return model.generate(ids, **{**NEVER_STOP, "attention_mask": torch.ones_like(ids), **options})


def by_hand(model, ids):
    """Greedy decoding without a cache, one forward over everything a token."""
    with torch.no_grad():
        for _ in range(NEW):
            logits = model(ids, use_cache=False).logits[:, -1]
            ids = torch.cat([ids, logits.argmax(dim=-1, keepdim=True)], dim=1)
    return ids


def test_greedy_decoding_is_the_argmax_of_the_forward(model):
    generated = generate(model, token_ids())
    assert torch.equal(generated, by_hand(model, token_ids()))
    assert generated[:, TOKENS:].unique().numel() > 2  # it does not repeat one token


def test_matrices_are_kept_within_a_call_only_and_an_edit_between_calls_counts(plain_model):
    coding = plain_model.crate.layers[0].sparsification.coding
    seen = []
    coding.register_forward_hook(lambda *_: seen.append(coding.kept_step is not None))
    before = generate(plain_model, token_ids())
    with torch.no_grad():
        coding.dictionary.data.mul_(-3)
    assert torch.equal(generate(plain_model, token_ids()), by_hand(plain_model, token_ids()))
    assert not torch.equal(generate(plain_model, token_ids()), before)
    assert seen[0] == (not coding.from_zero)
    assert coding.kept_step is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shell", SHELLS)
def test_the_cache_changes_no_token(shell, mode):
    model = build(CrateForCausalLM, SHELLS[shell](pad_token_id=1))
    expected = generate(model, token_ids(), use_cache=False, **MODES[mode])
    assert torch.equal(generate(model, token_ids(), **MODES[mode]), expected)
    assert torch.equal(generate(model, token_ids(), cache_implementation="static", **MODES[mode]), expected)


@torch.no_grad()
def test_logits_with_the_cache_are_the_logits_without(model):
    ids = token_ids(length=13)
    expected = model(ids, use_cache=False).logits
    for cache in (None, DynamicCache(), StaticCache(model.config, max_cache_len=17)):
        pieces, past = [], cache
        for part in ids.split([6, 1, 1, 3, 2], dim=1):
            outputs = model(part, past_key_values=past, use_cache=True)
            past = outputs.past_key_values
            pieces.append(outputs.logits)
        torch.testing.assert_close(torch.cat(pieces, dim=1), expected)


def test_left_padding_changes_no_token(model):
    alone = generate(model, token_ids(1, 5))
    longer = generate(model, token_ids(1, 9, seed=1))
    batch = torch.cat(
        [torch.cat([torch.ones(1, 4, dtype=torch.long), token_ids(1, 5)], dim=1), token_ids(1, 9, seed=1)]
    )
    for cache in ({}, {"cache_implementation": "static"}):
        together = generate(model, batch, attention_mask=batch.ne(1).long(), **cache)
        assert torch.equal(together[0, 4:], alone[0])
        assert torch.equal(together[1], longer[0])
    beams = generate(model, batch, attention_mask=batch.ne(1).long(), num_beams=3)
    assert torch.equal(beams[0, 4:], generate(model, token_ids(1, 5), num_beams=3)[0])


def test_beams_are_at_least_as_likely_as_the_greedy_choice(model):
    def log_likelihood(sequence):
        with torch.no_grad():
            scores = model(sequence).logits.log_softmax(dim=-1)
        chosen = scores[:, :-1].gather(2, sequence[:, 1:, None])
        return chosen[:, TOKENS - 1 :].sum().item()

    ids = token_ids(1)
    wide = generate(model, ids, num_beams=10)
    assert log_likelihood(wide) >= log_likelihood(generate(model, ids)) - 1e-4


def test_what_generate_returns(model):
    model.set_attn_implementation("eager")
    outputs = generate(
        model,
        token_ids(),
        return_dict_in_generate=True,
        output_scores=True,
        output_logits=True,
        output_hidden_states=True,
        output_attentions=True,
    )
    assert len(outputs.scores) == len(outputs.logits) == len(outputs.hidden_states) == len(outputs.attentions) == NEW
    assert outputs.attentions[0][0].shape == (BATCH, HEADS, TOKENS, TOKENS)
    assert outputs.attentions[3][1].shape == (BATCH, HEADS, 1, TOKENS + 3)
    assert len(outputs.hidden_states[1]) == LAYERS + 1
    cache = outputs.past_key_values
    assert [type(layer) for layer in cache.layers] == [SubspaceDynamicLayer] * LAYERS
    assert {layer.keys.shape for layer in cache.layers} == {(BATCH, HEADS, TOKENS + NEW - 1, HEAD_DIM)}
    assert all(layer.values is layer.keys for layer in cache.layers)


@pytest.mark.parametrize("implementation", ["dynamic", "static"])
def test_generation_continues_from_a_cache(model, implementation):
    cache = DynamicCache() if implementation == "dynamic" else StaticCache(model.config, max_cache_len=TOKENS + NEW)
    half_way = generate(model, token_ids(), max_new_tokens=2, past_key_values=cache)
    sequences = generate(model, half_way, max_new_tokens=NEW - 2, past_key_values=cache)
    assert torch.equal(sequences, generate(model, token_ids()))


def test_generation_from_embeddings(model):
    embeddings = model.get_input_embeddings()(token_ids())
    expected = generate(model, token_ids())[:, TOKENS:]
    mask = torch.ones_like(token_ids())
    for options in ({}, {"num_beams": 2}):
        given = model.generate(inputs_embeds=embeddings, attention_mask=mask, **NEVER_STOP, **options)
        wanted = generate(model, token_ids(), **options)[:, TOKENS:] if options else expected
        assert torch.equal(given, wanted)


@pytest.mark.parametrize("options", [{"prompt_lookup_num_tokens": 3}, {"prefill_chunk_size": 3}, {"assistant": True}])
def test_faster_ways_give_the_greedy_tokens(model, options):
    expected = generate(model, token_ids(1))
    if "assistant" in options:
        assistant = deepcopy(model)
        with torch.no_grad():
            assistant.crate.layers[1].compression.attention.output.weight.mul_(0.5)  # sometimes wrong
        options = {"assistant_model": assistant}
    assert torch.equal(generate(model, token_ids(1), **options), expected)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.filterwarnings("ignore:.*pin_memory.*")  # transformers' own, where there is no accelerator
def test_continuous_batching_gives_the_greedy_tokens(model, attention):
    prompts = [token_ids(1, length, seed=length)[0].tolist() for length in (3, 7, 12)]
    config = GenerationConfig(do_sample=False, **NEVER_STOP)
    expected = [by_hand(model, torch.tensor([prompt]))[0, len(prompt) :].tolist() for prompt in prompts]
    model.set_attn_implementation(attention)
    batching = ContinuousBatchingConfig(num_blocks=64, max_batch_tokens=32)
    made = model.generate_batch(prompts, config, continuous_batching_config=batching, progress_bar=False)
    found = [made[name].generated_tokens for name in sorted(made, key=lambda name: int(name.rpartition("_")[2]))]
    assert found == expected


def test_eager_and_sdpa_generate_the_same(model):
    expected = generate(model, token_ids())
    model.set_attn_implementation("eager")
    assert torch.equal(generate(model, token_ids()), expected)


@torch.no_grad()
def test_a_static_cache_compiles_once():
    model = build(CrateForCausalLM, decoder_config())
    torch._dynamo.reset()
    graphs = []

    def count(module, _):
        graphs.append(module)
        return module.forward

    compiled = torch.compile(model, fullgraph=True, backend=count)
    ids, cache = token_ids(), StaticCache(model.config, max_cache_len=17)
    expected = by_hand(model, ids)
    compiled(ids, past_key_values=cache)
    for place in range(TOKENS, TOKENS + NEW - 1):
        logits = compiled(expected[:, place : place + 1].clone(), past_key_values=cache).logits
        assert torch.equal(logits[:, -1].argmax(dim=-1), expected[:, place + 1])
    assert len(graphs) == 2  # the prompt, and every token after it
    assert all(isinstance(layer, SubspaceStaticLayer) for layer in cache.layers)


def test_half_the_cache_of_gpt2():
    width = 30
    ours = build(CrateForCausalLM, decoder_config(hidden_size=width, head_dim=None))
    theirs = GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=width, n_head=HEADS, n_layer=LAYERS, n_positions=37)
    ).eval()

    def cached_bytes(net):
        options = {"return_dict_in_generate": True, "cache_implementation": "static"}
        layers = generate(net, token_ids(), **options).past_key_values.layers
        storages = {
            id(t.untyped_storage()): t.untyped_storage() for layer in layers for t in (layer.keys, layer.values)
        }
        unique = {storage.data_ptr(): storage.nbytes() for storage in storages.values()}
        return sum(unique.values())

    assert 2 * cached_bytes(ours) == cached_bytes(theirs)


def test_streaming(model):
    class Tokens:
        def decode(self, ids, **_):
            return " ".join(map(str, [ids] if isinstance(ids, int) else ids)) + "\n"

    streamer = TextIteratorStreamer(Tokens(), timeout=30)
    expected = generate(model, token_ids(1), streamer=streamer)
    assert "".join(streamer).split() == [str(token) for token in expected[0].tolist()]


def test_a_prompt_longer_than_the_context_is_an_error(model):
    limit = model.config.max_sequence_length
    for excess in (0, 1):
        with pytest.raises(ValueError, match=f"{limit + excess} tokens.*context of {limit}"):
            generate(model, token_ids(1, limit + excess))


@pytest.mark.parametrize("shell", SHELLS)
def test_generation_stops_at_the_context(shell):
    model = build(CrateForCausalLM, SHELLS[shell](pad_token_id=1, max_position_embeddings=13))
    limit = model.config.max_sequence_length
    for options in ({}, {"use_cache": False}, {"num_beams": 2}):
        sequences = generate(model, token_ids(), max_new_tokens=100, **options)
        assert sequences.shape[1] == limit
        model(sequences)
    embeddings = model.get_input_embeddings()(token_ids())
    assert model.generate(inputs_embeds=embeddings, **{**NEVER_STOP, "max_new_tokens": 100}).shape[1] == limit - TOKENS


def test_save_and_load_with_a_generation_config(plain_model, tmp_path):
    plain_model.generation_config.update(do_sample=True, top_k=7)
    plain_model.save_pretrained(tmp_path)
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert loaded.generation_config.top_k == 7
    assert torch.equal(generate(loaded, token_ids()), generate(plain_model, token_ids()))


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_prepared_four_dimensional_mask(model, attention):
    model.set_attn_implementation(attention)
    ids, offset = token_ids(1, 4), model.config.position_offset
    # two continuations of one prefix in one row: [a b c | d] and [a b | e], each sees only its own past
    row = torch.cat([ids[:, :3], ids[:, 3:], token_ids(1, 1, seed=3)], dim=1)
    sees = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 0, 0, 1]]).bool()
    mask = torch.zeros(1, 1, 5, 5).masked_fill(~sees, torch.finfo(torch.float32).min)
    positions = torch.tensor([[0, 1, 2, 3, 2]]) + offset
    logits = model(row, attention_mask=mask, position_ids=positions).logits
    torch.testing.assert_close(logits[:, 3], model(row[:, :4]).logits[:, 3])
    torch.testing.assert_close(logits[:, 4], model(row[:, [0, 1, 4]]).logits[:, 2])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
@torch.no_grad()
def test_a_row_of_several_sequences_gives_what_each_gives_alone(model, attention):
    model.set_attn_implementation(attention)
    ids, offset, parts = token_ids(), model.config.position_offset, (slice(0, 3), slice(3, TOKENS))
    positions = torch.cat([torch.arange(3), torch.arange(TOKENS - 3)])[None] + offset
    packed = model(ids, position_ids=positions, use_cache=False).logits
    for part in parts:
        torch.testing.assert_close(packed[:, part], model(ids[:, part]).logits)
    labels = ids.masked_fill(positions == offset, -100)  # as DataCollatorWithFlattening makes them
    losses = [model(ids[:, part], labels=ids[:, part]).loss * (part.stop - part.start - 1) for part in parts]
    loss = model(ids, position_ids=positions, labels=labels).loss
    torch.testing.assert_close(loss, sum(losses) / (TOKENS - 2))


@torch.no_grad()
def test_an_attention_without_such_a_mask_is_told_the_positions(plain_model):
    seen = []

    def spy(module, query, key, value, mask, **kwargs):
        seen.append(kwargs["position_ids"])
        return query.transpose(1, 2), None

    AttentionInterface.register("spy", spy)
    plain_model.set_attn_implementation("spy")
    positions = torch.tensor([[0, 1, 2, 0, 1, 2, 3]])  # flash attention asks where they are smallest
    plain_model(token_ids(), position_ids=positions + plain_model.config.position_offset, use_cache=False)
    assert len(seen) == LAYERS
    assert all(torch.equal(given, positions) for given in seen)
    del AttentionInterface._global_mapping["spy"]


@pytest.mark.parametrize("family", ["mssa", "tssa"])
@torch.no_grad()
def test_exporters_can_take_a_cache_apart(family):
    utils = pytest.importorskip("transformers.exporters.utils")
    config = decoder_config(compression=family)
    cache = DynamicCache(config=config)
    model = build(CrateForCausalLM, config)
    torch.use_deterministic_algorithms(True)  # what is not written holds NaN
    try:
        for ids in token_ids().split(4, dim=1):
            model(ids, past_key_values=cache)
    finally:
        torch.use_deterministic_algorithms(False)
    leaves = utils.get_leaf_tensors(cache)
    assert leaves
    assert all(torch.isfinite(leaf).all() for leaf in leaves.values())  # the room for more tokens is written too
    if hasattr(utils, "cast_leaf_tensors"):  # of transformers 5.24
        utils.cast_leaf_tensors(cache, dtype=torch.float64, device=torch.device("cpu"))
        floats = [leaf for leaf in utils.get_leaf_tensors(cache).values() if leaf.is_floating_point()]
        assert {leaf.dtype for leaf in floats} == {torch.float64}
