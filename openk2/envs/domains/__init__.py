"""The worlds, one domain per file; `openk2.envs.catalogue` lists them."""
