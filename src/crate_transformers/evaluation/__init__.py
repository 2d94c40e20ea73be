"""What is done with a model that is there: open it, give it inputs, use it, measure it, look inside it."""
