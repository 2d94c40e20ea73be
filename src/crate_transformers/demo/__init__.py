"""Small trained models with what they are shown: something to look at without training or downloading anything.

    fashion        CRATE classifier of Fashion-MNIST, 28 x 28 pixels, patches of 4 x 4, read by its class token
    fashion-vit    a ViT of the same width and depth, trained in the same way: the baseline
    fashion-mae    CRATE masked autoencoder of the same pictures
    python         causal CRATE language model of the Python language reference, with its tokenizer

Each folder holds the recipe that made it and its measured figures; LICENSES.md says whose the data are.
`scripts/make_demo.py` of the repository makes all of it again. Weights are stored in float16 and computed in float32.
"""

from .loading import NAMES, Demonstration, Pictures, load, pictures, texts

__all__ = ["NAMES", "Demonstration", "Pictures", "load", "pictures", "texts"]
