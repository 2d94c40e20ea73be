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
# notebook finds a neuron that fires on few tokens, reads what it fires on, switches it, and follows what that does to
# the next token. The model is a small one of Python's language reference that comes with the package.

# %%
import matplotlib.pyplot as plt
import torch

from crate_transformers import demo
from crate_transformers.analysis import Edit, code_of_token, find_neurons, run_edited, steer_and_generate, trace

shown = demo.load("python")
model, tokenizer = shown.model, shown.tokenizer
ids = tokenizer(list(shown.texts), return_tensors="pt", padding=True)
inputs = {"input_ids": ids["input_ids"], "attention_mask": ids["attention_mask"]}
LAYER = 3

# %% [markdown]
# ## What makes it fire
#
# `find_neurons` goes over a text once and keeps for every neuron how often it fires and its strongest tokens, with what
# stands before them.

# %%
neurons = find_neurons(model, inputs, layer=LAYER)
chosen = neurons.most_selective(4, min_fire_fraction=0.005)
for neuron in chosen:
    fires = neurons.fire_fraction[neuron].item()
    print(f"neuron {neuron}: fires on {fires:.1%} of the tokens")
    for value, context, _ in neurons.tokens(neuron)[:4]:
        print(f"    {value:.2f}  ...{tokenizer.decode(context)!r}")

# %% [markdown]
# ## A token as a sum of atoms
#
# The strongest entries of one token's code, and how much of the token is left over when that many atoms are summed. A
# square dictionary takes one step from $z = x$, so what is left over does not go to zero: the code replaces the
# token, it does not rebuild it.

# %%
text = "The statement is executed if the condition is"
prompt = tokenizer(text, return_tensors="pt")
record = trace(model, prompt, ("tokens", "half_tokens", "codes"))
code = code_of_token(model, record, LAYER, prompt["input_ids"].shape[1] - 1)
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
axes[0].bar(range(12), code.values[:12], tick_label=[str(n) for n in code.neurons[:12]])
axes[0].set(xlabel="neuron", ylabel="strength", title=f"code of {text.split()[-1]!r}")
axes[0].tick_params(axis="x", rotation=60)
axes[1].plot(code.residuals, color="tab:red")
axes[1].set(xlabel="atoms summed", ylabel="share left over", ylim=0)

# %% [markdown]
# ## Switch it off
#
# An `Edit` says what is changed, and only the layers from there on are computed again. The difference of the logits
# says which next tokens that neuron spoke for.

# %%
neuron = code.neurons[0]
plain = run_edited(model, prompt)
without = run_edited(model, prompt, Edit(neurons={(LAYER, neuron): 0.0}), before=plain)
before, after = (run.outputs.logits[0, -1].softmax(-1) for run in (plain, without))
change = after - before
for title, order in (
    ("less likely without it", change.argsort()),
    ("more likely without it", change.argsort(descending=True)),
):
    print(f"{title}: " + ", ".join(f"{tokenizer.decode([t])!r} {change[t]:+.4f}" for t in order[:5].tolist()))
assert change.abs().sum() > 0
again = run_edited(model, prompt, Edit(), before=without)
assert torch.allclose(again.outputs.logits, plain.outputs.logits, atol=1e-5)  # nothing is kept changed

# %% [markdown]
# ## Steer a text
#
# The same neuron held at a value while text is generated, greedily, beside the text that the model writes by itself.

# %%
strong = 4 * neurons.mean_when_firing[chosen[0]].item()
own, steered = steer_and_generate(
    model, prompt["input_ids"], LAYER, {chosen[0]: strong}, max_new_tokens=25, do_sample=False
)
print("by itself:", tokenizer.decode(own[0]))
print("steered:  ", tokenizer.decode(steered[0]))
