"""Stand-ins for what the gateway talks to. `openai_upstream` is a real HTTP server; start there."""
