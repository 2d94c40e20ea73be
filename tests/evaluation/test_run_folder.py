"""What `crate evaluate` says of the model it read, and of a recipe beside it that is damaged."""

import json

import pytest

from crate_transformers.errors import UserError
from crate_transformers.evaluation.run_folder import describe_model, recipe_beside


@pytest.fixture
def run(tmp_path):
    """run(model, best) -> a folder whose model is that of one of its two checkpoints, steps 15 and 20."""

    def make(model, best):
        folder = tmp_path / "run"
        for step in (15, 20):
            checkpoint = folder / "checkpoints" / f"checkpoint-{step}"
            checkpoint.mkdir(parents=True)
            (checkpoint / "model.safetensors").write_text(f"weights of step {step}")
            log = [{"step": 15, "eval_loss": 0.7, "eval_accuracy": 0.75}, {"step": 20, "eval_accuracy": 0.5}]
            state = {
                "global_step": step,
                "max_steps": 20,
                "best_global_step": best,
                "best_metric": 0.75 if best == 15 else 0.5,
                "log_history": log,
            }
            (checkpoint / "trainer_state.json").write_text(json.dumps(state))
        (folder / "recipe.yaml").write_text("model: {}")
        (folder / "model.safetensors").write_text(f"weights of step {model}")
        return folder

    return make


@pytest.mark.parametrize(
    ("model", "best", "said"),
    [
        (15, 15, "the best model of its run (step 15 of 20, accuracy 0.75)"),
        (20, 20, "the best model of its run (step 20 of 20, accuracy 0.5)"),
        (20, 15, "a model of its run (step 20 of 20), not the best, which is of step 15"),
        (20, None, "the last model of its run (step 20 of 20)"),
        (7, 15, "the model of its run"),  # an average of weights, for one
    ],
)
def test_which_model_of_a_run_it_is(run, model, best, said):
    folder = run(model, best)
    assert describe_model(folder) == f"{folder}: {said}"
    checkpoint = folder / "checkpoints" / "checkpoint-15"
    assert describe_model(checkpoint) == f"{checkpoint}: the checkpoint of step 15 of 20"


def test_a_folder_alone_is_named(tmp_path):
    assert describe_model(tmp_path) == str(tmp_path)
    assert describe_model("owner/name") == "owner/name"


@pytest.mark.parametrize("content", [b"[1]", b"", b"a: [", b"\xff\xfe\x00", b"model: {family: nothing}"])
def test_a_damaged_recipe_beside_a_model_is_named(tmp_path, content):
    (tmp_path / "recipe.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"recipe\.yaml"):
        recipe_beside(tmp_path)
