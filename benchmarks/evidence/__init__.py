"""The parts of benchmarks/zoo.py: models, data kept in memory, the table of runs, what a run leaves, the results."""
