"""What ships with the gateway: provider rows, the price book, and the reading of `gateway.toml`.

`build` and `providers` are on the way of every cold start; `config` needs pydantic and is imported
where a file is read: by the command line and the control plane.
"""
