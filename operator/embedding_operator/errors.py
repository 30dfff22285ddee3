"""What can go wrong, as a tree of exceptions that knows nothing of kopf or HTTP libraries.

    OperatorError
    ├── ApiError            the API server refused or did not answer; the work queue tries again
    │   ├── NotFoundError        the object, or its kind, is not there
    │   ├── ConflictError        somebody else wrote first, or a uid or resource version no longer holds
    │   ├── ForbiddenError       the operator's role, a quota or an admission rule says no
    │   └── RejectedError        the object is invalid, or changes what cannot be changed
    ├── NameConflictError        an object of the wanted name belongs to somebody else
    ├── PodTemplateRefusedError  spec.podTemplate says what it may not
    ├── LeftoverError            an object of the wanted name is about to be removed; wait for that
    └── OwnerGoneError           the resource that all this is for no longer exists

No retry policy lives here: that is the queue's.
"""


class OperatorError(Exception):
    """Base of everything that the operator raises on purpose."""


class ApiError(OperatorError):
    """The API server refused a request, or did not answer in time.

    status is the HTTP status, 0 where there was no answer. message is the server's own.
    """

    def __init__(self, message: str, *, status: int = 0) -> None:
        super().__init__(message)
        self.message = message
        self.status = status


class NotFoundError(ApiError):
    """404."""


class ConflictError(ApiError):
    """409."""


class ForbiddenError(ApiError):
    """403."""


class RejectedError(ApiError):
    """400 or 422, or 500 for a field that the kind's schema does not have."""


class NameConflictError(OperatorError):
    """An object of the wanted name exists and is not controlled by the resource."""

    def __init__(self, kind: str, name: str, holder: str) -> None:
        super().__init__(
            f"{kind} {name} exists and belongs to {holder}; it is left alone. "
            f"Remove it, or give the EmbeddingModel another name."
        )
        self.kind = kind
        self.name = name


class PodTemplateRefusedError(OperatorError):
    """spec.podTemplate says what it may not; the text has the paths, and what to do."""


class LeftoverError(OperatorError):
    """An object of the wanted name is still being removed with its former owner."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(f"{kind} {name} of a deleted resource of the same name is still being removed")


class OwnerGoneError(OperatorError):
    """The EmbeddingModel was deleted, or deleted and made again, since it was last seen."""
