"""Number crunching on plain tensors: knows nothing of models, text or training."""
