"""What is done with a model that is there: open it, give it inputs, look inside it, hand it on."""
