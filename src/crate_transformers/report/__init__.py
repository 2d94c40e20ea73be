"""What a look at a model, a run and a benchmark look like: figures, tables, pages, files written whole.

Pure functions of numbers, arrays and small records; matplotlib is loaded when the first figure is drawn.
"""
