"""The rollup: the ledger's stream, its fallback queue and the sweep's schedule. See docs/ledger.md."""

from llm_gateway.bootstrap_rollup import build_rollup_handler

handler = build_rollup_handler()
