"""Tools in, verified conversations about them out: the stages of agentic data synthesis."""
