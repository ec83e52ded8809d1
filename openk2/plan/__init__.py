"""What a model needs of GPUs: memory, layout, communication, time and price, by arithmetic."""
