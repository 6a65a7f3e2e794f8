"""The gateway without HTTP: the same pipeline, driven from the caller's own process. `gateway.Gateway` is its face."""
