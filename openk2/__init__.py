"""openk2: the Kimi K2 system as one package, from text to a served, tool-calling model."""

__version__ = "0.1.0"
