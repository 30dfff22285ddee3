"""Between HTTP and the engine: tokens, the batching policy, frames, and both ends of the socket.

`tokenization`, `client` and `inference` run in the HTTP processes; `backlog` (pure), `compute` and
`engine_process` run in the engine's; `wire` and `state` belong to both.
"""
