"""The whole forward pass for CPUs, compiled by numba from Python and a little LLVM IR."""
