"""ASGI over the Lambda Runtime API, with response streaming: what `python -m llm_gateway.runtime` runs.

The managed Python runtime buffers every answer. `AWS_LAMBDA_EXEC_WRAPPER` starts this package in its place: one asyncio
loop that polls for events, runs the app, and streams its body while the app still produces it.

    __main__   reads the environment, loads the app, reports what fails on the way
    config     what the process was told: the Runtime API's address, the app, how many events at once
    loop       the process's life: restore, N pollers, SIGTERM
    cycle      one event through the app: receive, send, deadline, what happens when the app fails
    events     an event of API Gateway (REST, HTTP), a function URL or a load balancer -> an ASGI scope
    prelude    status and headers -> the metadata that stands before a streamed body
    rapid      the Runtime API's calls
    http1      the HTTP/1.1 beneath them, with chunked requests and trailers

An app is any ASGI 3 callable for `http` scopes. Three optional coroutines on it are called if they are there:
`before_snapshot()` before SnapStart takes its image, `after_restore()` in every environment made from that image,
`aclose()` when the process ends. There is no lifespan: buffered hosts (Mangum with lifespan off) have none either.

What the scope carries beside the ASGI specification:

- `aws.event` and `aws.context`, as Mangum's.
- `extensions["llm_gateway.no_disconnect"]` = `{}`: Lambda does not tell a function that the caller has gone, so nobody
  needs to wait for `http.disconnect`. If the platform does cut the response, `send` raises `OSError` and `receive`
  yields the disconnect.
- `extensions["llm_gateway.deadline"]` = `{"unix_ms": int}`: when Lambda will end the invocation. Some time before it,
  the app is cancelled; it may still send its last words, and settle, within the grace that `RuntimeConfig` gives.
"""
