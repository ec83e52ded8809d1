"""An agent: a goal in, tool calls for hundreds of steps, artefacts and a journal out."""
