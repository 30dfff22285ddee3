"""How failed loads are remembered, and what a request is told of them."""

import pytest

from embedding_runtime import errors
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service.failures import Failure, after, as_answer, state

DOWN = errors.HubUnreachableError("no answer")
GONE = errors.ModelNotFoundError("no such repository")


def test_transient_failures_are_tried_again_later_and_later() -> None:
    failure: Failure | None = None
    waits = []
    for _ in range(8):
        failure = after(failure, DOWN, 100)
        waits.append(failure.until - 100)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (GONE, 300),
        (errors.UnsupportedModelError("no ONNX file"), 300),
        (errors.NotCachedError("not there"), 1),
        (errors.RateLimitedError("slowly", retry_after=77), 77),
        (errors.OutOfMemoryError("no room", retry_after=5), 5),
    ],
)
def test_each_kind_is_remembered_for_its_time(error: RuntimeFault, seconds: float) -> None:
    failure = after(None, error, 10)
    assert failure.until == 10 + seconds
    assert failure.told(9 + seconds) is error
    assert failure.told(10 + seconds) is None


def test_that_there_is_no_room_is_looked_at_again_soon_however_often() -> None:
    failure: Failure | None = None
    for _ in range(8):
        failure = after(failure, errors.OutOfMemoryError("no room", retry_after=1), 0)
        assert failure.until == 1


def test_a_transient_failure_says_when_to_come_back() -> None:
    failure = after(None, errors.RateLimitedError("slowly", retry_after=77), 0)
    told = failure.told(40)
    assert told is not None
    assert told.retry_after == 37


@pytest.mark.parametrize(
    ("error", "default", "due"), [(DOWN, True, True), (DOWN, False, False), (GONE, True, False)]
)
def test_only_default_models_mend_by_themselves(error: RuntimeFault, default: bool, due: bool) -> None:
    failure = after(None, error, 0)
    assert not failure.due(0.5, by_itself=default)
    assert failure.due(1.5, by_itself=default) is due


@pytest.mark.parametrize(
    ("error", "only_asked_for", "kind"),
    [
        (GONE, True, errors.UnknownModelError),
        (GONE, False, errors.LoadFailedError),
        (errors.RevisionNotFoundError("x"), True, errors.UnknownModelError),
        (errors.NotCachedError("x"), True, errors.UnknownModelError),
        (errors.NotCachedError("x"), False, errors.LoadFailedError),
        (errors.UnsupportedModelError("x"), True, errors.UnsupportedModelRequestError),
        (errors.UnsupportedModelError("x"), False, errors.LoadFailedError),
        (errors.AccessDeniedError("x"), True, errors.LoadFailedError),
        (errors.CorruptModelError("x"), True, errors.LoadFailedError),
        (DOWN, True, errors.LoadDelayedError),
        (errors.DiskFullError("x"), True, errors.LoadFailedError),
        (errors.OutOfMemoryError("x"), True, errors.OutOfMemoryError),
        (errors.OverloadedError("x"), True, errors.OverloadedError),
        (errors.EngineUnavailableError("x"), True, errors.EngineUnavailableError),
    ],
)
def test_a_request_is_told_whose_mistake_it_is(
    error: RuntimeFault, only_asked_for: bool, kind: type[RuntimeFault]
) -> None:
    answer = as_answer(error, Wanted("org/m"), only_asked_for=only_asked_for)
    assert type(answer) is kind
    assert error.message in answer.message


def test_what_may_mend_itself_can_be_asked_again_and_the_rest_not() -> None:
    delayed = as_answer(DOWN, Wanted("org/m"), only_asked_for=True)
    assert (delayed.code, delayed.permanent, delayed.retry_after) == ("LoadFailed", False, 1)
    failed = as_answer(errors.CorruptModelError("x"), Wanted("org/m"), only_asked_for=True)
    assert (failed.code, failed.permanent, failed.retry_after) == ("LoadFailed", True, None)


def test_no_room_is_a_state_of_its_own() -> None:
    assert state(errors.OutOfMemoryError("x")) == "exhausted"
    assert state(DOWN) == "load_failed"
