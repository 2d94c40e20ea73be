"""CRATE in a training loop of your own: a module from images to logits, nothing else.

    python examples/own_loop.py [STEPS]

Prints the held-out accuracy on scikit-learn's handwritten digits.
"""

import sys

import torch
from sklearn.datasets import load_digits

from crate_transformers import CRATE


def main(steps: int = 600) -> float:
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 8 - 1  # (1797, 1, 8, 8) in [-1, 1]
    labels = torch.tensor(digits.target)
    torch.manual_seed(0)
    order = torch.randperm(len(images))
    train, test = order[:1400], order[1400:]

    model = CRATE(image_size=8, patch_size=4, num_classes=10, channels=1, dim=64, depth=3, heads=4, dim_head=16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
    for _ in range(steps):
        batch = train[torch.randint(len(train), (64,))]
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    model.eval()
    with torch.no_grad():
        accuracy = (model(images[test]).argmax(dim=1) == labels[test]).float().mean().item()
    print(f"{steps} steps: {accuracy:.1%} of {len(test)} held-out digits")
    return accuracy


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
