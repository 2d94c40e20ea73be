"""`python -m crate_transformers`, for launchers such as torchrun."""

from .cli.app import main

if __name__ == "__main__":
    main()
