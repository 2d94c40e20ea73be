"""A saved model in use: predict, generate, evaluate, probe, reconstruct; and what the folder of a run says of it."""
