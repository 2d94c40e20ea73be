"""Tests marked `cuda` are taken out of the run where there is no CUDA device."""

import torch


def pytest_collection_modifyitems(config, items):
    if torch.cuda.is_available():
        return
    away = [item for item in items if item.get_closest_marker("cuda")]
    items[:] = [item for item in items if item not in away]
    config.hook.pytest_deselected(items=away)
