"""A classifier made ready to serve: LayerNorms and the ISTA matrix folded, then compiled or exported.

python examples/serve.py MODEL [FILE.onnx]
"""

import sys
from pathlib import Path

import torch
from transformers import AutoModelForImageClassification

from crate_transformers import fuse
from crate_transformers.interop import export_model


def main(source: str, destination: str | None = None) -> None:
    model = AutoModelForImageClassification.from_pretrained(source).eval()
    served = fuse(model)  # a copy, for inference alone
    size = model.config.image_size
    height, width = size if isinstance(size, list | tuple) else (size, size)
    images = torch.randn(4, model.config.num_channels, height, width)
    with torch.inference_mode():
        gap = (served(images).logits - model(images).logits).abs().max().item()
    print(f"fused: logits differ by {gap:.1e} at most; served.compile() may make it faster still")
    if destination is not None:
        export_model(model, Path(destination))
        print(f"written to {destination}; batch, height and width stay free")


if __name__ == "__main__":
    main(*sys.argv[1:])
