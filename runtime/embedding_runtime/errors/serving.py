"""The server's state, which is not the client's mistake."""

from embedding_runtime.errors.root import RuntimeFault


class ServingError(RuntimeFault):
    """The server's state keeps it from answering."""

    permanent = False


class NotReadyError(ServingError):
    """The model is still loading."""

    code = "Loading"


class LoadFailedError(ServingError):
    """The model could not be loaded, and will not be without a change."""

    code = "LoadFailed"
    permanent = True


class LoadDelayedError(LoadFailedError):
    """The model could not be loaded, but a later try may succeed."""

    permanent = False


class UnloadedError(ServingError):
    """The model was unloaded while the request was on its way to it."""

    code = "Unloaded"


class EngineUnavailableError(ServingError):
    """The engine process is gone or not yet there."""

    code = "EngineUnavailable"


class OutOfMemoryError(ServingError):
    """The memory budget or the device has no room for it now."""

    code = "OutOfMemory"


class OverloadedError(ServingError):
    """The queue is full."""

    code = "Exhausted"


class DrainingError(ServingError):
    """The server ends, and the answer was not there in the time that it takes for that."""

    code = "Draining"


class DeadlineExceededError(ServingError):
    """The answer was not there in the time that the client or the server allows."""

    code = "DeadlineExceeded"


class ClientLeftError(ServingError):
    """Nobody waits for the answer any more."""

    code = "ClientLeft"
