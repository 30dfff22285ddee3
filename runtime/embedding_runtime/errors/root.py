"""The root of what can go wrong, and what belongs to no other part."""

from typing import ClassVar


class RuntimeFault(Exception):  # noqa: N818  the root of the tree is not an error of its own
    """The root. `code` is the stable name that travels in bodies, frames and termination messages.

    `permanent`: trying again without a change is pointless. `retry_after`: seconds, where something told us.
    """

    code: ClassVar[str] = "InternalError"
    permanent: ClassVar[bool] = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = retry_after


class SettingsError(RuntimeFault):
    """The environment holds mistakes; `mistakes` has one line for each."""

    code = "InvalidSettings"

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


class AddressInUseError(RuntimeFault):
    """The listening address is taken or cannot be bound."""

    code = "AddressInUse"


class WireError(RuntimeFault):
    """A frame between an HTTP process and the engine breaks the protocol."""

    code = "WireError"


class InternalError(RuntimeFault):
    """A bug."""
