"""The K2 architecture: MLA attention and a sparse mixture of experts, in plain PyTorch."""
