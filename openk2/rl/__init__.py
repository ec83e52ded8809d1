"""Reinforcement learning: rollouts through the engine, objectives, the loop that joins them."""
