"""Small runs without labels that the tests share."""

from crate_transformers.training import load_recipe

_COMMON = {
    "model.hidden_size": 24,
    "model.num_hidden_layers": 2,
    "model.num_attention_heads": 3,
    "train.logging_steps": 5,
}
MAE = (
    "mae-digits",
    {
        **_COMMON,
        "model.decoder_num_hidden_layers": 2,
        "model.decoder_num_attention_heads": 2,
        "train.per_device_train_batch_size": 64,
        "train.max_steps": 12,
        "train.eval_steps": 20,
        "train.learning_rate": 0.005,
        "train.warmup_epochs": 0.1,
    },
)
DINO = (
    "dino-digits",
    {
        **_COMMON,
        "data.local_crops": 1,
        "train.per_device_train_batch_size": 32,
        "train.max_steps": 12,
        "train.eval_steps": 6,
        "train.prototypes": 37,
        "train.head_hidden_size": 29,
        "train.head_bottleneck_size": 16,
        "train.freeze_last_layer_epochs": 0.1,
        "train.warmup_epochs": 0.1,
    },
)


def recipe(base, **settings):
    name, common = base
    return load_recipe(name, {**common, **{key.replace("__", "."): value for key, value in settings.items()}})


def command_settings(base, **settings):
    """The same as arguments of `crate train`."""
    name, common = base
    merged = {**common, **{key.replace("__", "."): value for key, value in settings.items()}}
    return [name, *(part for key, value in merged.items() for part in ("--set", f"{key}={value}"))]
