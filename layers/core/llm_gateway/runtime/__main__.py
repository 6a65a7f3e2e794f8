"""`python -m llm_gateway.runtime`: loads the app and serves it until SIGTERM.

Exit status: 0 after SIGTERM; 1 when the app did not load or the Runtime API failed; 64 and 65 when a hook failed before
the snapshot or after the restore (the managed Python runtime's numbers).
"""

import asyncio
import gc
import importlib
import inspect
import json
import logging
import os
import signal
import sys
import time
from typing import Any, cast

from llm_gateway.runtime.config import RuntimeConfig
from llm_gateway.runtime.cycle import App
from llm_gateway.runtime.loop import HookFailed, Runtime
from llm_gateway.runtime.rapid import PollingStopped, RuntimeApi, RuntimeApiFailed

log = logging.getLogger("llm_gateway.runtime")

FAILED, BEFORE_SNAPSHOT_FAILED, AFTER_RESTORE_FAILED = 1, 64, 65


async def load_app(target: str) -> App:
    """Builds the app that `module:callable` names. Raises whatever the module or the callable raises."""
    module_name, colon, name = target.partition(":")
    if not colon:
        raise ValueError(f"{target!r} is not module:callable")
    app = getattr(importlib.import_module(module_name), name)()
    return cast("App", await app if inspect.isawaitable(app) else app)


async def run(config: RuntimeConfig) -> int:
    reports = RuntimeApi(config.host, config.port)
    # Nothing that an import makes goes away again: looking for it costs a tenth of the start.
    gc.disable()
    try:
        app = await load_app(config.app)
    except (Exception, SystemExit) as error:  # whatever an app's import may raise is Lambda's to show
        log.critical("the app could not be loaded", exc_info=error)
        await reports.init_error(f"Runtime.{type(error).__name__}", error)
        return FAILED
    # What is loaded by now stays: no garbage collection needs to look at it again.
    gc.freeze()
    gc.enable()
    runtime = Runtime(app, config, os.environ)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, runtime.stop)
    try:
        if config.snap_start:
            await runtime.restore()
        await runtime.serve()
    except PollingStopped:
        return 0
    except HookFailed as error:
        return await _report_hook(reports, error)
    except RuntimeApiFailed as error:
        log.critical("the Runtime API failed", exc_info=error)
        return FAILED
    return 0


async def _report_hook(reports: RuntimeApi, error: HookFailed) -> int:
    log.critical("%s", error, exc_info=error)
    if error.hook == "before_snapshot":
        await reports.init_error("Runtime.BeforeSnapshotError", error)
        return BEFORE_SNAPSHOT_FAILED
    if error.hook == "after_restore":
        await reports.restore_error(error)
        return AFTER_RESTORE_FAILED
    return FAILED


class JsonLines(logging.Formatter):
    """Log lines in the shape Lambda's JSON log format has; Managed Instances take no other.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-cloudwatchlogs-logformat.html
    """

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "timestamp": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": getattr(record, "aws_request_id", ""),
        }
        if record.exc_info and record.exc_info[0]:
            line["errorType"] = record.exc_info[0].__name__
            line["stackTrace"] = self.formatException(record.exc_info).splitlines()
        return json.dumps(line)


def set_up_logs(*, as_json: bool) -> None:
    """The runtime's own lines go to standard error; what the app logs is the app's to set up."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("[%(levelname)s] %(name)s: %(message)s"))
    log.addHandler(handler)
    log.propagate = False
    # A pipe is block-buffered by default: lines would be lost in a frozen process.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # both are text wrappers in a process of our own


def main() -> int:
    config = RuntimeConfig.from_environment(os.environ)
    set_up_logs(as_json=config.log_json)
    return asyncio.run(run(config))


if __name__ == "__main__":
    sys.exit(main())
