"""C++ beside the operators: its compilation on this machine, and how it is told of tensors."""
