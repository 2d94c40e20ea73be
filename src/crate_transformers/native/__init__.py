"""Operators for CPUs: in C++, compiled by the machine's compiler when first used, and oneDNN's linear map."""
