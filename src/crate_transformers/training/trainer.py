"""transformers' Trainer, with these additions.

* the order of samples is a function of (seed, epoch), see data/keys.py; a resumed run begins at its place in it
* a checkpoint is written beside its place while training goes on, sealed and renamed into it (checkpointer.py)
* several processes may share the weights (sharding.py), and stop at the same step
* loss and times are measured over the whole run, however often it was interrupted
* the loss of a step is the mean over all items of its accumulated batches in all processes, which may be unequal
* soft labels (MixUp, CutMix) meet a soft cross-entropy
* the loss of an evaluation is the mean over all its items, whatever the batches and however many the processes
* a loss that is not finite stops the run before it reaches the weights
* the learning rate may change once an epoch, and each parameter's gradient may be clipped by itself
* weight decay leaves every scale alone
* the time that a step waited for data is measured
"""

import copy
import math
import random
import shutil
import time
from collections.abc import Callable, Mapping, Sized
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeGuard, cast

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from ..data import EpochSampler
from ..errors import UserError
from ..evaluation.run_folder import checkpoints_in, folder_of_step
from ..upstream import EvalLoopOutput
from .average import Ema
from .callbacks import GracefulStop
from .checkpointer import Checkpointer, Snapshot
from .checkpoints import Progress, data_size
from .keyed_loader import SampleOrder, keyed_loader, named_workers
from .schedules import EpochSchedule
from .sharding import WholeModel, reshard, shard
from .stored import AVERAGE, MODEL, OPTIMIZER, is_stored_sharded, read_into, read_model, read_optimizer, split_optimizer
from .tasks.base import Collator

_MAGNITUDES = (".weight_g", ".parametrizations.weight.original0")  # of torch's older and newer weight norm


class DivergenceError(UserError):
    """The loss became NaN or infinite."""


class CrateTrainer(Trainer):
    """transformers' Trainer with the additions that the top of this file lists.

    Args:
        order: of the training samples; None is a function of (seed, epoch) without repetitions.
        evaluation_collator: makes a batch of items in evaluation; None takes that of training.
        ema: an average of the weights, which is evaluated instead of them and saved with every checkpoint.
        count_items: gives the number of terms that the loss of a batch is the mean of; None counts its rows.
        progress: that of the run that is continued.
        decays: what weight decay shrinks, as `get_decay_parameter_names` says.
        clips: whose gradient has the norm `max_grad_norm` at most: that of "all" parameters together, or of "each".
        schedule: of the learning rate; None is that of `args`.
        args, kwargs: of transformers' Trainer.
    """

    def __init__(
        self,
        *args: Any,
        order: SampleOrder | None = None,
        evaluation_collator: Collator | None = None,
        ema: Ema | None = None,
        count_items: Callable[[Mapping[str, Tensor]], int] | None = None,
        progress: Progress | None = None,
        decays: str = "matrices",
        clips: str = "all",
        schedule: EpochSchedule | None = None,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.order, self.decays, self.clips, self.schedule = order or SampleOrder(), decays, clips, schedule
        self.evaluation_collator = evaluation_collator
        self.ema = ema
        self.model_accepts_loss_kwargs = False  # losses are means; the Trainer divides them among accumulated steps
        self.count_items = count_items or _rows
        self.before = progress or Progress()
        self.loss_sum = self.before.loss_sum
        self.data_seconds = self.before.data_seconds
        self.loop_started: float | None = None
        self._items_of_step, self._parts_of_step = 0, 1
        self._evaluated_loss, self._evaluated_items = 0.0, 0
        self.stop: GracefulStop | None = None
        self.base = ""  # of a run that trains adapters, the digest of what they are around
        run_dir = Path(str(self.args.output_dir))
        self.add_callback(_FindBest(run_dir))
        self.checkpointer = Checkpointer(run_dir, self.args.should_save, self.accelerator.num_processes)
        self.checkpointer.after = self._remove_old_checkpoints
        self.checkpointer.timeout = self.args.ddp_timeout_delta
        self.whole: WholeModel | None = None  # of a model whose weights the processes share

    def share_weights(self) -> None:
        """Share the weights of the model, and all that follows them, among the processes (sharding.py)."""
        assert self.model is not None
        self.whole = WholeModel(self.model)
        shard(self.model, self.args.device, self.accelerator.num_processes)

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: DataLoader | None = None) -> nn.Module:
        if self.whole is None:
            return super()._wrap_model(model, training, dataloader)
        if not getattr(model, "_is_accelerate_prepared", False):
            model = self.accelerator.prepare_model(model, evaluation_mode=True)  # autocast, and no DDP around it
            vars(model)["_is_accelerate_prepared"] = True
        return model

    @property
    def seconds(self) -> float:
        """The time that training took so far, before every interruption too."""
        now = time.perf_counter()
        return self.before.seconds + (0.0 if self.loop_started is None else now - self.loop_started)

    @property
    def samples_taken(self) -> int:
        """The training samples that all steps so far took, of all processes; of a stream, whole batches."""
        args, step = self.args, self.state.global_step
        together = args.train_batch_size * args.world_size
        if not self.order.keyed:
            return step * args.gradient_accumulation_steps * together
        samples, accumulated = len(cast(Sized, self.train_dataset)), args.gradient_accumulation_steps * together
        unit = accumulated if self.order.whole_steps else together
        used = samples // unit * unit if args.dataloader_drop_last else samples
        epochs, steps = divmod(step, math.ceil(used / accumulated))
        return epochs * used + min(steps * accumulated, used)

    @property
    def mean_loss(self) -> float | None:
        """The mean loss of all steps so far and of all processes; None before the first step."""
        steps = self.state.global_step
        return self._over_processes(self.loss_sum) / self.accelerator.num_processes / steps if steps else None

    def _over_processes(self, value: float) -> float:
        """The sum of a value over all processes."""
        return self._sums([value])[0]

    def _sums(self, values: list[float]) -> list[float]:
        """The sums of values over all processes."""
        if self.accelerator.num_processes == 1:
            return values
        here = torch.tensor(values, dtype=torch.float64, device=self.args.device)
        sums: Tensor = self.accelerator.reduce(here, "sum")
        return sums.tolist()

    # -- data ---------------------------------------------------------------------------------------------------------

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler | None:
        if not self.order.keyed:
            return super()._get_train_sampler(train_dataset)
        dataset = self.train_dataset if train_dataset is None else train_dataset
        batch = self.args.train_batch_size * self.args.world_size
        if self.order.whole_steps:
            batch *= self.args.gradient_accumulation_steps
        return EpochSampler(len(cast(Sized, dataset)), self.args.seed, self.order.repetitions, batch, self.order.ends)

    def get_train_dataloader(self) -> DataLoader:
        mesh = getattr(self.accelerator, "torch_device_mesh", None)
        if not self.order.keyed or set(getattr(mesh, "mesh_dim_names", None) or ()) & {"tp", "cp", "sp"}:
            return super().get_train_dataloader()  # with whose parts of a batch go to which process
        sampler = self._get_train_sampler()
        assert isinstance(sampler, EpochSampler)
        return keyed_loader(self, sampler, self.order.whole_steps)

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[dict[str, Tensor]], None]:
        started = time.perf_counter()
        if self.loop_started is None:
            self.loop_started = started
        with named_workers():
            batches, _ = super().get_batch_samples(*args, **kwargs)
        self.data_seconds += time.perf_counter() - started
        self._parts_of_step = len(batches)
        asked = self.stop is not None and self.stop.asked
        items, stops = self._sums([float(sum(map(self.count_items, batches))), float(asked)])
        self._items_of_step = round(items)
        if self.stop is not None:
            self.stop.agreed = stops > 0  # by all processes at the same step
        return batches, None

    def get_eval_dataloader(self, eval_dataset: str | Dataset | None = None) -> DataLoader:
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
        a direction, and shrinking it is no regularisation. With `decays="kernels"` the weights of linear maps and
        convolutions alone, which are what flax calls kernels.
        """
        if self.decays == "kernels":
            kernels = [name for name, part in model.named_modules() if isinstance(part, (nn.Linear, nn.Conv2d))]
            own = dict(model.named_parameters())  # a map for adapters holds no weight of its own
            return [f"{name}.weight" for name in kernels if f"{name}.weight" in own]
        scales = {name for name, p in model.named_parameters() if p.ndim < 2 or name.endswith(_MAGNITUDES)}
        return [name for name in super().get_decay_parameter_names(model) if name not in scales]

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        if self.schedule is None or self.lr_scheduler is not None:
            return super().create_scheduler(num_training_steps, optimizer)
        self.lr_scheduler = LambdaLR(cast(Optimizer, optimizer or self.optimizer), self.schedule)
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def _clip_grad_norm(self, model: nn.Module) -> Any:
        if self.clips == "all":
            return super()._clip_grad_norm(model)
        norm = self._get_grad_norm(model)  # of all of them, before, as is logged
        for parameter in model.parameters():
            nn.utils.clip_grad_norm_(parameter, self.args.max_grad_norm)
        return norm

    # -- loss ---------------------------------------------------------------------------------------------------------

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, Any]:
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
        if model.training:
            loss = self._weighed(loss, inputs if labels is None else {**inputs, "labels": labels}, outputs)
        return (loss, outputs) if return_outputs else loss

    def _weighed(self, loss: Tensor, inputs: Mapping[str, Tensor], outputs: Mapping[str, object]) -> Tensor:
        """Weigh a batch's mean loss, so that the mean over batches and processes is the mean over all their items."""
        items, parts = self.count_items(inputs), self._parts_of_step * self.accelerator.num_processes
        if items * parts == self._items_of_step:
            return loss  # equal parts, as most are
        if items == 0:  # the mean of nothing is not a number
            others = [value for name, value in outputs.items() if name != "loss" and _is_differentiable(value)]
            return 0.0 * cast(Tensor, sum(value.float().sum() for value in others))
        return loss * (items * parts / self._items_of_step)

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss = super().training_step(*args, **kwargs)
        value = loss.item()
        self.loss_sum += value
        if not math.isfinite(value):
            raise DivergenceError(
                f"the loss became {value} at step {self.state.global_step + 1}; the last checkpoint before it is "
                "kept. Lower train.learning_rate, lengthen the warm-up, or lower train.max_grad_norm"
            )
        return loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        self._take_buffers_of_main()
        with self.ema.swapped_into(self.accelerator.unwrap_model(self.model)) if self.ema else nullcontext():
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(
        self,
        dataloader: DataLoader,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        self._evaluated_loss, self._evaluated_items = 0.0, 0
        output = super().evaluation_loop(dataloader, description, prediction_loss_only, ignore_keys, metric_key_prefix)
        items = self._over_processes(float(self._evaluated_items))
        loss = self._over_processes(self._evaluated_loss)
        if output.metrics is not None and items:  # the Trainer weighs batches by their rows, padded ones too
            output.metrics[f"{metric_key_prefix}_loss"] = loss / items
        return output

    def prediction_step(
        self, model: nn.Module, inputs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> tuple[Tensor | None, Any, Any]:
        loss, logits, labels = super().prediction_step(model, inputs, *args, **kwargs)
        real, own = self._real_rows(_rows(inputs)), loss
        if real is not None:  # every process runs the model again: a sharded one needs them all
            first = max(real, 1)
            inputs = {name: value[:first] if isinstance(value, Tensor) else value for name, value in inputs.items()}
            own, *_ = super().prediction_step(model, inputs, True)
        items = 0 if real == 0 else self.count_items(inputs)
        if items and own is not None:
            self._evaluated_loss += float(own) * items
            self._evaluated_items += items
        return loss, logits, labels

    def _real_rows(self, rows: int) -> int | None:
        """How many of a batch's rows are samples of this evaluation's own, the first ones; None: all, in every process.

        The last batches are filled up with the first samples, so that all processes have equally many.
        """
        loader = self.accelerator.gradient_state
        if self.accelerator.num_processes == 1 or not loader.end_of_dataloader or loader.remainder <= 0:
            return None
        return min(max(loader.remainder - self.accelerator.process_index * rows, 0), rows)

    def _determine_best_metric(self, metrics: dict[str, float], trial: object) -> bool:
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

    def _save_checkpoint(self, model: nn.Module, trial: object) -> None:
        writer = self.checkpointer
        writer.finish()  # the one before has its place now, or the run ends here
        self.store_flos()
        self.state.best_model_checkpoint = self._best_checkpoint()
        tensors, optimizer = split_optimizer(cast(Optimizer, self.optimizer).state_dict())
        parts = {MODEL: self._model_tensors(), OPTIMIZER: tensors}
        if self.ema is not None:
            parts[AVERAGE] = self.ema.state(self.accelerator.unwrap_model(self.model))
        snapshot = Snapshot(
            {f"{part}.{name}": tensor for part, named in parts.items() for name, tensor in named.items()},
            self._small_files(),
            copy.deepcopy(optimizer),
            copy.deepcopy(self.state),
            Progress(
                processes=self.accelerator.num_processes,
                batch_size=self.args.per_device_train_batch_size,
                loss_sum=self._over_processes(self.loss_sum) / self.accelerator.num_processes,
                seconds=self.seconds,
                data_seconds=self.data_seconds,
                base=self.base,
                samples=self.samples_taken,
                data_size=data_size(self.train_dataset),
            ),
            self.whole.model if self.whole else self.accelerator.unwrap_model(self.model),
        )
        writer.save(folder_of_step(writer.run_dir, self.state.global_step).name, snapshot)

    def _model_tensors(self) -> dict[str, Tensor]:
        """Weights and buffers by the names of the saved model; a tied weight has several."""
        self._take_buffers_of_main()
        model = self.accelerator.unwrap_model(self.model)
        reshard(model)
        return model.state_dict(keep_vars=True)

    def _take_buffers_of_main(self) -> None:
        """Give every process the main one's buffers, as DDP does: a BatchNorm may follow its process's own batches."""
        if self.whole:
            for buffer in self.accelerator.unwrap_model(self.model).buffers():
                distributed.broadcast(buffer, 0)

    def _small_files(self) -> dict[str, Any]:
        """What a checkpoint holds beside tensors, by file: schedule, scaler, the generators of every process."""
        generators: dict[str, Any] = {
            "python": random.getstate(),
            "numpy": np.random.get_state(),  # noqa: NPY002 (of code that is not ours)
            "cpu": torch.random.get_rng_state(),
        }
        several = self.accelerator.num_processes > 1
        if torch.cuda.is_available():
            states = torch.cuda.random
            generators["cuda"] = states.get_rng_state_all() if several else states.get_rng_state()
        files = {"training_args.bin": self.args, "scheduler.pt": cast(Any, self.lr_scheduler).state_dict()}
        if several:
            files.update({f"rng_state_{rank}.pth": found for rank, found in enumerate(gather_object([generators]))})
        else:
            files["rng_state.pth"] = generators
        scaler = getattr(self.accelerator, "scaler", None)
        return {**files, "scaler.pt": scaler.state_dict()} if scaler is not None else files

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        folder = Path(resume_from_checkpoint)
        if self.whole or is_stored_sharded(folder):
            read_model(folder, self.accelerator.unwrap_model(self.model))
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """The optimizer, the schedule and the average of a checkpoint, which any number of processes wrote."""
        if checkpoint is None:
            return
        folder = Path(checkpoint)
        read_optimizer(folder, cast(Optimizer, self.optimizer))
        cast(Any, self.lr_scheduler).load_state_dict(
            torch.load(folder / "scheduler.pt", map_location="cpu", weights_only=True)
        )
        self.load_average(folder)

    def load_average(self, checkpoint: Path) -> None:
        """Go on with the average of a checkpoint, where the run has one."""
        if self.ema is not None:
            model = self.accelerator.unwrap_model(self.model)
            self.ema.restore(model, lambda tensors: read_into(checkpoint, AVERAGE, tensors))

    def whole_model(self) -> nn.Module:
        """The model with all its weights, in every process; all processes call it."""
        model = self.accelerator.unwrap_model(self.model)
        return self.whole.of(model) if self.whole else model

    def _best_checkpoint(self) -> str | None:
        """The checkpoint of the best evaluation; None where none was saved at that step."""
        run_dir, best = self.checkpointer.run_dir, self.state.best_global_step
        if not best or not (best == self.state.global_step or folder_of_step(run_dir, best).is_dir()):
            return None
        return str(folder_of_step(run_dir, best))

    def _load_best_model(self) -> None:
        self.checkpointer.finish()
        best = self.state.best_model_checkpoint
        if best is None or not Path(best).is_dir():  # the Trainer would keep the last weights, with a warning
            raise UserError(f"the best checkpoint of the run, {best}, is gone: start the run again with --overwrite")
        if self.whole or is_stored_sharded(Path(best)):
            read_model(Path(best), self.accelerator.unwrap_model(self.model))
        else:
            super()._load_best_model()

    def _remove_old_checkpoints(self, state: TrainerState) -> None:
        limit = self.args.save_total_limit
        if not limit or limit <= 0:
            return
        best = Path(state.best_model_checkpoint).name if state.best_model_checkpoint else None
        others = [path for path in checkpoints_in(self.checkpointer.run_dir) if path.name != best]
        keep = max(limit - (best is not None), 1)
        for path in others[:-keep]:
            shutil.rmtree(path, ignore_errors=True)


class _FindBest(TrainerCallback):
    """Finds the best checkpoint of a run again where the folder of the run was moved."""

    def __init__(self, run_dir: Path):
        self.run_dir = run_dir

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.best_global_step and folder_of_step(self.run_dir, state.best_global_step).is_dir():
            state.best_model_checkpoint = str(folder_of_step(self.run_dir, state.best_global_step))


def _rows(batch: Mapping[str, object]) -> int:
    """The number of rows of a batch: the length of its first tensor."""
    return len(next(value for value in batch.values() if isinstance(value, Tensor)))


def _is_differentiable(value: object) -> TypeGuard[Tensor]:
    return isinstance(value, Tensor) and value.requires_grad


__all__ = ["CrateTrainer", "DivergenceError"]
