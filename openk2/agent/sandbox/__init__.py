"""Where commands of a model run: as little of the host as the operating system can arrange."""
