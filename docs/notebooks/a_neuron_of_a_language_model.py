# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A neuron of a language model
#
# In CRATE the code after the sparse step is non-negative and has a dictionary: each entry is one atom, a neuron. This
# notebook follows one neuron the whole way: what makes it fire, what it says about the next token, what happens when it
# is switched off or held on. Then it takes a token apart into atoms, and shows how far that goes. The last part has
# what users of TransformerLens look for: cached activations, ablation, patching, the logit lens. The model is a small
# one of Python's language reference that comes with the package.

# %%
import matplotlib.pyplot as plt
import torch

from crate_transformers import demo
from crate_transformers.analysis import (
    Edit,
    code_of_token,
    film_of_token,
    find_neurons,
    run_edited,
    steer_and_generate,
    trace,
)
from crate_transformers.objective import ista_step

shown = demo.load("python")
model, tokenizer = shown.model, shown.tokenizer
model.set_attn_implementation("eager")  # the form that gives all records
ids = tokenizer(list(shown.texts), return_tensors="pt", padding=True)
inputs = {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}
LAYER = model.config.num_hidden_layers - 1  # the last
print(f"{len(shown.texts)} sentences that no training saw, {int(ids['attention_mask'].sum())} tokens")

# %% [markdown]
# ## What makes it fire
#
# `find_neurons` goes over a text once and keeps for every neuron how often it fires and its strongest tokens, with what
# stands around them. A neuron is easy to read where its eight strongest tokens are all the same one. Of those, the
# most selective is taken: the one whose values vary most for their size.

# %%
neurons = find_neurons(model, inputs, layer=LAYER, examples=8)


def strongest(neuron: int) -> list[int]:
    """The tokens at which a neuron fires most, the first first."""
    return [context[place] for _, context, place in neurons.tokens(neuron)]


readable = [neuron for neuron in range(len(neurons)) if len(set(strongest(neuron))) == 1]
for neuron in readable:
    print(
        f"neuron {neuron}: {tokenizer.decode(strongest(neuron)[:1])!r}, up to {neurons.values[neuron, 0]:.1f}, "
        f"selectivity {neurons.selectivity[neuron]:.2f}"
    )
NEURON = max(readable, key=lambda neuron: neurons.selectivity[neuron].item())
TOKEN = strongest(NEURON)[0]

print(f"\nneuron {NEURON}, {neurons.fire_fraction[NEURON]:.0%} of all tokens make it fire; its strongest are")
for value, context, place in neurons.tokens(NEURON)[:6]:
    print(f"    {value:.2f}  ...{tokenizer.decode(context[:place])!r} [{tokenizer.decode(context[place])}]")

# %% [markdown]
# Strongest tokens say when a neuron fires much. They do not say when it fires a little, which is more often. So here
# are all of its values, on the token that it is about and on the others.

# %%
codes = trace(model, inputs, ("codes",)).layers[LAYER].get("codes")[..., NEURON]  # (B, N)
real, here = ids["attention_mask"].bool(), ids["input_ids"] == TOKEN
groups = {repr(tokenizer.decode([TOKEN])): codes[real & here], "other tokens": codes[real & ~here]}
figure, axis = plt.subplots(figsize=(6, 2.8), layout="constrained")
for name, values in groups.items():
    axis.hist(values.numpy(), bins=torch.linspace(0, 8, 33).tolist(), label=name, alpha=0.8)
axis.set(xlabel="value of the neuron", ylabel="tokens", yscale="log")
_ = axis.legend(frameon=False)
on, off = groups.values()
print(f"mean {on.mean():.2f} on the {len(on)} of its own, {off.mean():.2f} on the {len(off)} others")
print(f"{(off > 0).float().mean():.0%} of the others make it fire, {(off > on.min()).sum()} above the least of its own")
assert on.mean() > 10 * off.mean()
assert (off > 0).float().mean() > 0.1  # so that it fires says little; how strongly says nearly all
assert (off > on.min()).sum() <= 2

# %% [markdown]
# ## What it says
#
# This model has no norm after its last layer. The logits are the last code times the token embeddings, so each logit
# *is* a sum over the neurons, with nothing left over:
#
# $$\mathrm{logit}_v = \sum_j z_j E_{vj}.$$
#
# Column $j$ of $E$ is what neuron $j$ says for and against every next token, per unit of its value.

# %%
prompt = tokenizer("The names are looked up in", return_tensors="pt")
last = prompt["input_ids"].shape[1] - 1
assert prompt["input_ids"][0, last] == TOKEN
plain = run_edited(model, prompt)
embeddings = model.get_output_embeddings().weight.detach()  # E (vocabulary, m)
code = plain.trace.layers[LAYER].get("codes")  # (B, N, m)
assert torch.allclose(code @ embeddings.mT, plain.outputs.logits, atol=1e-4)

says = embeddings[:, NEURON]
order = says.argsort(descending=True)
for title, tokens in (("for", order[:6]), ("against", order.flip(0)[:6])):
    print(f"{title:8}" + ", ".join(f"{tokenizer.decode([token])!r} {says[token]:+.2f}" for token in tokens.tolist()))

# %% [markdown]
# "in version" is how the reference marks what is new. Which neurons speak for the likeliest next token of this prompt?

# %%
(top,) = plain.outputs.logits[0, last].topk(1).indices.tolist()
shares = code[0, last] * embeddings[top]  # (m,), their sum is the logit
order = shares.abs().argsort(descending=True)[:12].tolist()
figure, axis = plt.subplots(figsize=(7, 2.8), layout="constrained")
axis.bar(range(12), shares[order].tolist(), tick_label=[str(neuron) for neuron in order])
axis.set(xlabel="neuron", ylabel="share of the logit", title=f"{tokenizer.decode([top])!r} after {'in'!r}")
assert abs(shares.sum() - plain.outputs.logits[0, last, top]) < 1e-4
assert order[0] == NEURON

# %% [markdown]
# ## Switch it off
#
# An `Edit` says what is changed, and only the layers from there on are computed again. In the last layer the effect is
# known beforehand: each logit loses $z_j E_{vj}$.

# %%
without = run_edited(model, prompt, Edit(neurons={(LAYER, NEURON): 0.0}), before=plain)
assert torch.allclose(plain.outputs.logits - without.outputs.logits, code[..., [NEURON]] * says, atol=1e-4)
before, after = (run.outputs.logits[0, last].softmax(-1) for run in (plain, without))
for title, order in (("less likely", (after - before).argsort()), ("more likely", (before - after).argsort())):
    told = (f"{tokenizer.decode([token])!r} {before[token]:.3f} to {after[token]:.3f}" for token in order[:4].tolist())
    print(f"{title} without it: " + ", ".join(told))
assert after[top] < before[top] / 2
again = run_edited(model, prompt, Edit(), before=without)
assert torch.allclose(again.outputs.logits, plain.outputs.logits, atol=1e-5)  # nothing is kept changed

# %% [markdown]
# Is it a special one? Every other neuron that fires here can be switched off in its turn. What changes is measured by
# the total variation of the next token's distribution, $\tfrac12 \sum_v |p_v - p'_v|$.

# %%
effect = {}
for neuron in code[0, last].nonzero().flatten().tolist():
    changed = run_edited(model, prompt, Edit(neurons={(LAYER, neuron): 0.0}), before=plain)
    effect[neuron] = 0.5 * (changed.outputs.logits[0, last].softmax(-1) - before).abs().sum().item()
ranked = sorted(effect, key=effect.get, reverse=True)
figure, axis = plt.subplots(figsize=(7, 2.6), layout="constrained")
colors = ["tab:red" if neuron == NEURON else "tab:gray" for neuron in ranked]
axis.bar(range(len(ranked)), [effect[neuron] for neuron in ranked], color=colors)
axis.set(xlabel=f"the {len(ranked)} neurons that fire here, by effect", ylabel="total variation")
median = effect[ranked[len(ranked) // 2]]
print(f"neuron {NEURON}: {effect[NEURON]:.2f}, the next {effect[ranked[1]]:.2f}, the median {median:.2f}")
assert ranked[0] == NEURON

# %% [markdown]
# ## Hold it on
#
# The same neuron held at a value on every token, whatever the text says: what is the next token then, and what does the
# model write, greedily, beside what it writes by itself?

# %%
start = tokenizer("The following table", return_tensors="pt")
largest = neurons.values[NEURON, 0].item()
strengths = [0.0, 4.0, 8.0, 12.0, 16.0, 20.0, 30.0, 40.0]
watched = {word: tokenizer(word)["input_ids"][0] for word in (" of", " the", " version")}
runs = [run_edited(model, start, Edit(neurons={(LAYER, NEURON): strength})) for strength in strengths]
chances = torch.stack([run.outputs.logits[0, -1].softmax(-1)[list(watched.values())] for run in runs])
figure, axis = plt.subplots(figsize=(6.5, 2.8), layout="constrained")
for word, values in zip(watched, chances.T, strict=True):
    axis.plot(strengths, values, marker="o", label=repr(word))
axis.axvline(largest, color="gray", linestyle=":", label="its largest on the text")
axis.set(xlabel="value at which it is held", ylabel="chance of the next token")
_ = figure.legend(frameon=False, loc="outside right center")
for strength in (largest, 40.0):
    neuron = {NEURON: strength}
    own, steered = steer_and_generate(model, start["input_ids"], LAYER, neuron, max_new_tokens=8, do_sample=False)
    print(f"held at {strength:.1f}: {tokenizer.decode(steered[0])!r}")
print(f"by itself:    {tokenizer.decode(own[0])!r}")

# %% [markdown]
# At the largest value that it has by itself, the sentence already goes another way: " of" was likeliest, and now
# " the", which follows an "in", is ahead of it. " version" wins at four times that value, and then nothing else is
# said. (A model of 0.3 million parameters writes no better by itself, either.) Such steering shows what a neuron stands
# for; it is no way to write.

# %%
assert watched[" version"] == says.argmax()
assert chances[0].argmax() == 0  # " of"
assert chances[-1].argmax() == 2  # " version"
assert chances[-1, 2] > 0.8
assert chances[strengths.index(8.0), 1] > chances[strengths.index(8.0), 0]
assert chances[strengths.index(8.0), 2] < 0.02

# %% [markdown]
# ## A token as a sum of atoms
#
# A layer reads $x = \mathrm{LN}(z^{\ell+1/2})$ and takes **one** step of ISTA on
#
# $$\tfrac12 \lVert x - D z \rVert^2 + \lambda \lVert z \rVert_1, \qquad z \ge 0,$$
#
# from $z = x$ on. If it went on, $D z$ would come near $x$. `code_of_token` sums the atoms, strongest first, and says
# what is left of $x$; `film_of_token` goes on with the step.

# %%
record = trace(model, prompt, ("tokens", "half_tokens", "codes"))
figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.2), layout="constrained")
for layer in range(LAYER + 1):
    token = code_of_token(model, record, layer, last)
    film = film_of_token(model, record, layer, last, steps=200)
    axes[0].plot(token.residuals, label=f"layer {layer}")
    axes[1].plot(range(201), film.objective)
    told = ", ".join(f"{film.objective[step]:.0f} after {step}" for step in (0, 1, 10, 200))
    print(f"layer {layer}: {len(token.neurons)} atoms leave {token.residuals[-1]:.2f} of the token; objective {told}")
    assert film.taken == 1
    assert token.residuals[-1] > 0.85  # one step does not rebuild the token
    assert film.objective[-1] < 0.7 * film.objective[film.taken]
axes[0].axhline(1, color="black", linewidth=0.8)
axes[0].set(xlabel="atoms summed", ylabel=r"$\Vert x - D z \Vert / \Vert x \Vert$", ylim=0)
axes[1].axvline(1, color="gray", linestyle=":")
axes[1].set_xscale("symlog", linthresh=1)
axes[1].set(xlabel="steps of ISTA; the layer takes one", ylabel="objective", yscale="log", xlim=(0, 200))
_ = figure.legend(frameon=False, loc="outside right center")

# %% [markdown]
# So in the square form a code is **not** an expansion of its token: the sum of all atoms is about as far from $x$ as 0
# is, in the last layer more than twice as far. The step is one towards the expansion, and the objective goes on falling
# for tens of steps that the network does not take. The exact sum over neurons of this model is the one above, of the
# logits. In the over-complete form (`dictionary_ratio=4`, decoded) what a layer writes is exactly a sum of atoms;
# `code_of_token(...).of` says which of the two it is.

# %%
assert token.of == "read"
assert token.residuals[-1] > 2

# %% [markdown]
# ## Where the one step raises the objective, and why
#
# In two layers the one step *raises* the objective. Two things can be at fault. The step may be too long: it is sure to
# descend for $\eta \le 1 / \lVert D \rVert_2^2$ only. And the ReLU cuts off the negative entries of $z = x$, which the
# theory, with $z \ge 0$, does not have. So each layer's step is taken four ways: as long as the network takes it and as
# long as it may safely be, each with the ReLU and with the soft threshold, which keeps the negative entries.

# %%
LAMBDA = model.config.ista_lambda


def objective(code: torch.Tensor, x: torch.Tensor, dictionary: torch.Tensor) -> float:
    """1/2 ||x - D z||^2 + lambda ||z||_1 of one code, (m,)."""
    return (0.5 * (x - code @ dictionary.mT).square().sum() + LAMBDA * code.abs().sum()).item()


raised = {}  # by layer: what each way adds to the objective
for layer in range(LAYER + 1):
    block = model.crate.layers[layer].sparsification
    dictionary = block.coding.dictionary.detach().double()
    x = block.norm(record.layers[layer].get("half_tokens")[0, last]).detach().double()
    safe = 1 / torch.linalg.matrix_norm(dictionary, 2).square().item()
    start, raised[layer] = objective(x, x, dictionary), {}
    for name, eta in (("as taken", block.coding.step_size), ("safe", safe)):
        moved = x + eta * (x - x @ dictionary.mT) @ dictionary
        soft = moved.sign() * (moved.abs() - eta * LAMBDA).relu()
        for threshold, code in (("ReLU", ista_step(x, x, dictionary, eta, LAMBDA)), ("soft", soft)):
            raised[layer][name, threshold] = objective(code, x, dictionary) - start
    told = ", ".join(f"{length} {threshold} {value:+.0f}" for (length, threshold), value in raised[layer].items())
    print(f"layer {layer}: eta {block.coding.step_size:.2f}, safe to {safe:.3f}; {told}")

# %% [markdown]
# In layer 1 the step is short enough, and it is the ReLU alone: with the soft threshold the same step descends. In the
# last layer the step is more than three times as long as is safe, and that is what does most of the harm: it raises the
# objective without a ReLU too. A step of the safe length would descend there, but for the ReLU, which at that length
# adds less than a sixth of what the step as taken does. In the other layers the step is within the bound and descends.

# %%
assert [layer for layer, ways in raised.items() if ways["as taken", "ReLU"] > 0] == [1, LAYER]
assert raised[1]["as taken", "soft"] < 0 < raised[1]["safe", "ReLU"]
assert safe < 0.1 / 3  # of the last layer
assert raised[LAYER]["as taken", "soft"] > 0 > raised[LAYER]["safe", "soft"]
assert 0 < raised[LAYER]["safe", "ReLU"] < raised[LAYER]["as taken", "ReLU"] / 6
assert abs(raised[LAYER]["as taken", "ReLU"] - (film.objective[1] - film.objective[0])) < 0.01
assert all((ways["safe", "soft"] < 0) for ways in raised.values())

# %% [markdown]
# ## What users of TransformerLens look for
#
# TransformerLens builds the architectures of its own list, and CRATE is not on it. What one does with it is done with
# what was used above, and without it:
#
# | there | here |
# |---|---|
# | `run_with_cache`, `cache["pattern", 3]` | `trace(model, inputs, RECORDS)`, `.layers[3].attention` |
# | `blocks.3.hook_resid_pre`, `hook_resid_mid` | `tokens_in`, `half_tokens` |
# | `mlp.hook_post` | `codes`; in the square form it is the residual stream after the layer as well |
# | `attn.hook_q`, `hook_k`, `hook_v` | `projections`: one $W = U^\top \mathrm{LN}(Z)$ is all three |
# | `run_with_hooks`, to ablate a head or a neuron | `run_edited(model, inputs, Edit(heads_off=..., neurons=...))` |
# | activation patching | `Edit(neurons=..., tokens=...)`, with values of another run |
# | logit lens | the codes of any layer times the embeddings |
#
# First, every head, switched off alone: `run_edited` computes the layers from the edit on, `before` has the others.

# %%
LINE, QUOTE = (tokenizer(text)["input_ids"][0] for text in ("\n", ' "'))
clean, other = (
    tokenizer(f"The {word} is defined in the", return_tensors="pt") for word in ("function", "class")
)  # the same number of tokens, one of which differs
runs = [run_edited(model, one) for one in (clean, other)]


def difference(run) -> float:
    """How far the end of the line is ahead of a quotation mark, as what comes next; in logits."""
    return (run.outputs.logits[0, -1, LINE] - run.outputs.logits[0, -1, QUOTE]).item()


DEPTH, HEADS = model.config.num_hidden_layers, model.config.num_attention_heads
pairs = [(layer, head) for layer in range(DEPTH) for head in range(HEADS)]
off = [run_edited(model, clean, Edit(heads_off=frozenset({pair})), before=runs[0]) for pair in pairs]
ablated = torch.tensor([difference(run) for run in off]).view(DEPTH, HEADS) - difference(runs[0])

# %% [markdown]
# Second, patching: the run on "class", in which one layer's code of one token is that of the run on "function". 1 is a
# patch that brings the whole difference, 0 one that brings nothing.

# %%
words = [tokenizer.decode([token]) for token in clean["input_ids"][0].tolist()]
patched = torch.zeros(DEPTH, len(words))
for layer in range(DEPTH):
    codes = runs[0].trace.layers[layer].get("codes")[0]  # (N, m)
    for place in range(len(words)):
        code = {(layer, neuron): value for neuron, value in enumerate(codes[place].tolist())}
        run = run_edited(model, other, Edit(neurons=code, tokens=(place,)), before=runs[1])
        patched[layer, place] = difference(run)
patched = (patched - difference(runs[1])) / (difference(runs[0]) - difference(runs[1]))

# %% [markdown]
# Third, the logit lens: which token each layer's code speaks for, were it the last one.

# %%
lens = torch.stack([layer.get("codes")[0] for layer in runs[0].trace.layers]) @ embeddings.mT  # (L, N, vocabulary)
figure, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained", width_ratios=(1, 1, 1.6))
for axis, values, title in ((axes[0], ablated, "a head switched off"), (axes[1], patched, "a code patched")):
    most = values.abs().max()
    image = axis.imshow(values.numpy(), cmap="RdBu_r", vmin=-most, vmax=most, aspect="auto")
    axis.set(title=title, ylabel="layer")
    figure.colorbar(image, ax=axis)
axes[0].set(xlabel="head")
axes[1].set_xticks(range(len(words)), [repr(word) for word in words], rotation=60)
axes[2].imshow(lens.softmax(-1).amax(-1).numpy(), cmap="Blues", vmin=0, vmax=1, aspect="auto")
axes[2].set_xticks(range(len(words)), [repr(word) for word in words], rotation=60)
axes[2].set(title="logit lens: likeliest token, the darker the surer", ylabel="layer")
for layer, row in enumerate(lens.argmax(-1).tolist()):
    for place, token in enumerate(row):
        axes[2].text(place, layer, repr(tokenizer.decode([token])), ha="center", va="center", fontsize=7)
print(f"the difference is {difference(runs[0]):+.2f} after 'function', {difference(runs[1]):+.2f} after 'class'")

# %% [markdown]
# The difference that the word makes lies on the word itself after the first layer, and moves to the last token from
# layer to layer; the words between carry next to nothing of it. There is no path around the sparse step, so a code *is*
# all that goes on, and the last code of the last token is the whole difference. The heads that matter most are in the
# last layer. The lens reads nothing here: up to the layer before the last, the codes do not speak the vocabulary's
# language, and it is the last layer that makes them.

# %%
moved = patched[:, [1, -1]]  # on the word, on the last token
assert moved[0, 0] > 0.95
assert (moved[:, 0].diff() < 0).all()
assert (moved[:, 1].diff() > 0).all()
assert torch.allclose(moved[-1], torch.tensor([0.0, 1.0]), atol=1e-4)
assert patched[:, 2:-1].abs().max() < 0.05
assert ablated.abs().amax(1).argmax() == LAYER
assert lens.softmax(-1)[:LAYER, -1, LINE].max() < 0.03 < 0.15 < lens.softmax(-1)[LAYER, -1, LINE]
