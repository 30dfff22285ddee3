"""The client's mistakes."""

from embedding_runtime.errors.root import RuntimeFault


class RequestError(RuntimeFault):
    """The client's mistake. `param` names the field, where there is one."""

    param: str | None = None

    def __init__(self, message: str, *, param: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, retry_after=retry_after)
        self.param = param


class MalformedRequestError(RequestError):
    """The body is not JSON."""

    code = "MalformedRequest"


class InvalidRequestError(RequestError):
    """The body is JSON, but not what the schema asks for."""

    code = "InvalidRequest"


class UnsupportedFieldError(RequestError):
    """The request asks for something that would change the answer and that is not to be had."""

    code = "UnsupportedField"


class UntrainedDimensionsError(RequestError):
    """The request wants vectors to be cut that were not trained for it."""

    code = "UntrainedDimensions"


class UnknownModelError(RequestError):
    """The request names a model that is not served here."""

    code = "UnknownModel"


class UnsupportedModelRequestError(RequestError):
    """The request names a model that this server cannot run."""

    code = "Unsupported"


class WrongTaskError(RequestError):
    """The request asks a model for another task than its own."""

    code = "WrongTask"


class AuthenticationError(RequestError):
    """No API key, or one that is not known."""

    code = "Unauthorized"


class TooManyInputsError(RequestError):
    """More inputs than one request may hold."""

    code = "TooManyInputs"


class UnsupportedEncodingError(RequestError):
    """The body is compressed in a way that this server does not read."""

    code = "UnsupportedEncoding"


class RequestTooLargeError(RequestError):
    """More bytes or tokens than one request may hold."""

    code = "RequestTooLarge"


class InputTooLongError(RequestError):
    """An input is longer than the model takes, and the request says that it must not be cut."""

    code = "InputTooLong"


class QueryTooLongError(RequestError):
    """The query alone fills the model's window."""

    code = "QueryTooLong"
