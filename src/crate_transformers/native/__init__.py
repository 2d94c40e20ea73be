"""The library's own operators for CPUs, written in C++ and compiled by the machine's compiler when first used."""
