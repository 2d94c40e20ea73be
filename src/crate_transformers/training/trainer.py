"""transformers' Trainer with what it lacks.

* the order of samples is a function of (seed, epoch), see data/datasets.py
* a checkpoint is written beside its place and renamed into it, so that a cut-off save destroys nothing
* soft labels (MixUp, CutMix) meet a soft cross-entropy
* a loss that is not finite stops the run before it reaches the weights
* weight decay leaves every scale alone
* the time that a step waited for data is measured
"""

import shutil
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Trainer

from ..data import EpochSampler
from ..errors import UserError
from ..upstream import PREFIX_CHECKPOINT_DIR, TRAINER_STATE_NAME
from .callbacks import Ema

_STAGING = ".saving"
_MAGNITUDES = (".weight_g", ".parametrizations.weight.original0")  # of torch's older and newer weight norm


class DivergenceError(UserError):
    """The loss became NaN or infinite."""


class CrateTrainer(Trainer):
    """See the top of this file.

    Args:
        keyed: whether the training set takes keys (epoch, sample); then the order is a function of (seed, epoch).
        evaluation_collator: items to a batch in evaluation, where it is not that of training.
        ema: an average of the weights, evaluated instead of them and saved with every checkpoint.
    """

    def __init__(
        self,
        *args: Any,
        keyed: bool = True,
        evaluation_collator: Any = None,
        ema: Ema | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.keyed = keyed
        self.evaluation_collator = evaluation_collator
        self.ema = ema
        self.model_accepts_loss_kwargs = False  # losses are means; the Trainer divides them among accumulated steps
        self.data_seconds = 0.0
        self.loop_started: float | None = None
        self._saving_to: Path | None = None

    # -- data ---------------------------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        if not self.keyed:
            return super()._get_train_sampler(train_dataset)
        dataset: Any = self.train_dataset if train_dataset is None else train_dataset
        return EpochSampler(len(dataset), self.args.seed)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        if self.loop_started is None:
            self.loop_started = started
        batches = super().get_batch_samples(*args, **kwargs)
        self.data_seconds += time.perf_counter() - started
        return batches

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        # the Trainer knows one collator and one drop_last for both loaders; every held-out sample counts
        kept = self.data_collator, self.args.dataloader_drop_last
        self.data_collator = self.evaluation_collator or self.data_collator
        self.args.dataloader_drop_last = False
        try:
            return super().get_eval_dataloader(eval_dataset)
        finally:
            self.data_collator, self.args.dataloader_drop_last = kept

    # -- optimizer ----------------------------------------------------------------------------------------------------

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Names of the parameters that weight decay shrinks.

        As the Trainer does, every parameter but biases and those of norms, by name and of LayerNorm: maps and
        dictionaries decay, embeddings, class and mask tokens and position tables too. Beyond that no parameter of one
        dimension (the scale of a BatchNorm, which goes by no name) and no magnitude of a weight norm: a scale is not
        a direction, and shrinking it is no regularisation.
        """
        scales = {name for name, p in model.named_parameters() if p.ndim < 2 or name.endswith(_MAGNITUDES)}
        return [name for name in super().get_decay_parameter_names(model) if name not in scales]

    # -- loss ---------------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        labels = inputs.get("labels")
        smoothing = self.args.label_smoothing_factor if model.training else 0.0
        is_class = "pixel_values" in inputs
        if is_class and isinstance(labels, Tensor) and (labels.is_floating_point() or smoothing):
            inputs = {name: value for name, value in inputs.items() if name != "labels"}
            outputs = model(**inputs)
            loss = F.cross_entropy(outputs.logits.float(), labels, label_smoothing=smoothing)
        else:
            outputs = model(**inputs)
            loss = outputs["loss"]
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            raise DivergenceError(
                f"the loss became {loss.item()} at step {self.state.global_step + 1}; the last checkpoint before it is "
                "kept. Lower train.learning_rate, lengthen the warm-up, or lower train.max_grad_norm"
            )
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        with self.ema.swapped_into(self.accelerator.unwrap_model(self.model)) if self.ema else nullcontext():
            return super().evaluate(*args, **kwargs)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """As the Trainer does; of two equal metrics (accuracies on a small part) the one with the lower loss wins."""
        before = self.state.best_global_step
        if super()._determine_best_metric(metrics, trial):
            return True
        name = f"eval_{str(self.args.metric_for_best_model).removeprefix('eval_')}"
        losses = [e["eval_loss"] for e in self.state.log_history if e.get("step") == before and "eval_loss" in e]
        if (
            metrics.get(name) != self.state.best_metric
            or not losses
            or metrics.get("eval_loss", losses[0]) >= losses[0]
        ):
            return False
        self.state.best_global_step = self.state.global_step
        return True

    # -- checkpoints --------------------------------------------------------------------------------------------------

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._saving_to) if self._saving_to is not None else super()._get_output_dir(trial)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        run_dir = Path(super()._get_output_dir(trial))
        staging = run_dir / _STAGING
        name = f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._saving_to = staging
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self._saving_to = None
        self.accelerator.wait_for_everyone()
        if self.args.should_save:
            self._publish(staging / name, run_dir / name)
            shutil.rmtree(staging, ignore_errors=True)
            self._remove_old_checkpoints(run_dir)
        self.accelerator.wait_for_everyone()

    def _publish(self, staged: Path, final: Path) -> None:
        if self.ema is not None:
            self.ema.save(staged)
        if self.state.best_global_step == self.state.global_step:
            self.state.best_model_checkpoint = str(final)
        self.state.save_to_json(str(staged / TRAINER_STATE_NAME))
        if final.exists():
            shutil.rmtree(final)
        staged.rename(final)

    def _remove_old_checkpoints(self, run_dir: Path) -> None:
        limit = self.args.save_total_limit
        if not limit or limit <= 0:
            return
        best = Path(self.state.best_model_checkpoint).name if self.state.best_model_checkpoint else None
        others = [path for path in checkpoints_in(run_dir) if path.name != best]
        keep = max(limit - (best is not None), 1)
        for path in others[:-keep]:
            shutil.rmtree(path, ignore_errors=True)


def checkpoints_in(run_dir: Path) -> list[Path]:
    """Whole checkpoints of a run, oldest first."""
    found = [path for path in run_dir.glob(f"{PREFIX_CHECKPOINT_DIR}-*") if (path / TRAINER_STATE_NAME).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


__all__ = ["CrateTrainer", "DivergenceError", "checkpoints_in"]
