"""Frames: what goes in comes out, and what breaks the rules is refused."""

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedding_runtime.engine.backend import EXTRAS, Extra, Float32, Tokens
from embedding_runtime.errors import OverloadedError, RequestTooLargeError, WireError
from embedding_runtime.model.recipe import Overrides
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service import wire
from embedding_runtime.service.policy.backlog import PRIORITIES, Priority
from embedding_runtime.service.state import EngineState, ModelState
from tests.unit.runtime.fakes import EMBEDDER, RERANKER, card

WANTED = Wanted(
    "org/embedder",
    "v2",
    "embed",
    precision="fp16",
    overrides=Overrides(64, ("cls", "mean"), False, (("query", "q: "), ("none", "")), "query"),
    fingerprint="f" * 64,
)

TEXTS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=20),
        st.booleans(),
        st.sampled_from([0, 0, 1, 7]),
    ),
    min_size=1,
    max_size=8,
)


def _read(data: bytes) -> wire.Frame | None:
    return next(wire.Frames().read(data), None)


def _payload(data: bytes) -> bytes:
    frame = _read(data)
    assert frame is not None
    return frame.payload


@given(TEXTS, st.sampled_from(PRIORITIES), st.sets(st.sampled_from(EXTRAS)))
def test_texts_survive_the_wire(
    texts: list[tuple[list[int], bool, int]], priority: Priority, extras: set[Extra]
) -> None:
    sent = [
        Tokens(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.uint8) if typed else None, unpooled)
        for ids, typed, unpooled in texts
    ]
    frame = _read(wire.submit(3, 2**40, sent, priority, extras))
    assert frame is not None
    assert (frame.kind, frame.slot, frame.request) == (wire.Kind.SUBMIT, 3, 2**40)
    parsed, told, wanted = wire.parse_submit(frame.payload)
    assert (told, set(wanted)) == (priority, extras)
    for before, after in zip(sent, parsed, strict=True):
        np.testing.assert_array_equal(before.ids, after.ids)
        assert before.unpooled == after.unpooled
        expected = np.zeros(len(before)) if before.type_ids is None else before.type_ids
        np.testing.assert_array_equal(
            expected, np.zeros(len(after)) if after.type_ids is None else after.type_ids
        )


@given(st.integers(0, 5), st.integers(0, 7))
def test_rows_survive_the_wire(count: int, width: int) -> None:
    values = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)
    if width:
        rows = wire.parse_rows(_payload(wire.rows(1, wire.Rows(values, 0.25, 1.5))))
        np.testing.assert_array_equal(rows.values, values)
        assert (rows.queue, rows.compute) == (0.25, 1.5)


@given(
    st.lists(st.integers(0, 4), min_size=1, max_size=4), st.sets(st.sampled_from(EXTRAS)), st.integers(1, 5)
)
def test_extras_survive_the_wire(counts: list[int], names: set[Extra], width: int) -> None:
    random = np.random.default_rng(0)
    values = random.normal(size=(len(counts), 3)).astype(np.float32)
    extras: dict[Extra, list[Float32]] = {
        name: [random.normal(size=(count, width)).astype(np.float32) for count in counts] for name in names
    }
    rows = wire.parse_rows(_payload(wire.rows(1, wire.Rows(values, 0.25, 1.5, extras))))
    np.testing.assert_array_equal(rows.values, values)
    assert set(rows.extras) == names
    for name, found in extras.items():
        for before, after in zip(found, rows.extras[name], strict=True):
            np.testing.assert_array_equal(before, after)


def test_extras_that_fit_no_frame_are_told_as_too_large() -> None:
    tokens = np.zeros((wire.MAX_PAYLOAD // 1024, 256), dtype=np.float32)
    answer = wire.Rows(np.zeros((2, 3), dtype=np.float32), 0, 0, {"tokens": [tokens, tokens[:9]]})
    assert isinstance(wire.parse_error(_payload(wire.rows(1, answer))), RequestTooLargeError)


def test_an_error_survives_the_wire() -> None:
    failure = wire.parse_error(_payload(wire.error(1, OverloadedError("full", retry_after=2.5))))
    assert isinstance(failure, OverloadedError)
    assert (failure.message, failure.retry_after) == ("full", 2.5)


def test_a_state_survives_the_wire() -> None:
    model = ModelState(2**31, WANTED, "ready", "", "", default=True, card=card(EMBEDDER))
    failed = ModelState(1, RERANKER, "load_failed", "NotCached", "it is not there", permanent=True)
    state = EngineState((model, failed))
    assert wire.parse_status(_payload(wire.status(state))) == state


@pytest.mark.parametrize("wanted", [WANTED, EMBEDDER, Wanted("m", folder=Path("/models/m"))])
def test_a_wanted_model_survives_the_wire(wanted: Wanted) -> None:
    frame = _read(wire.load(7, wanted))
    assert frame is not None
    assert (frame.kind, frame.request, wire.parse_load(frame.payload)) == (wire.Kind.LOAD, 7, wanted)


def test_a_slot_is_told_where_a_model_is_loaded() -> None:
    frame = _read(wire.loaded(7, 2**32 - 1))
    assert frame == wire.Frame(wire.Kind.LOADED, 2**32 - 1, 7, b"")


def test_the_end_of_the_stream_is_no_frame_even_in_the_middle_of_one() -> None:
    assert _read(b"") is None
    assert _read(wire.cancel(1)[:-3]) is None
    assert _read(wire.status(EngineState(()))[:-1]) is None


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<IB3xIQ", wire.MAX_PAYLOAD + 1, 1, 0, 1),
        struct.pack("<IB3xIQ", 0, 77, 0, 1),
    ],
)
def test_a_frame_against_the_rules_is_refused(header: bytes) -> None:
    with pytest.raises(WireError):
        _read(header)


@given(st.binary(max_size=64))
def test_a_broken_submit_is_refused_and_never_more_than_that(payload: bytes) -> None:
    try:
        texts, _, _ = wire.parse_submit(payload)
    except WireError:
        return
    assert all(len(text) > 0 for text in texts)


@pytest.mark.parametrize("parse", [wire.parse_rows, wire.parse_error, wire.parse_status, wire.parse_load])
@pytest.mark.parametrize("payload", [b"", b"{", b"{}", b"[]", b"\x00" * 7, b"\xff" * 40])
def test_a_broken_answer_is_refused(parse: object, payload: bytes) -> None:
    assert callable(parse)
    with pytest.raises(WireError):
        parse(payload)


def test_a_request_that_fits_no_frame_is_too_large() -> None:
    huge = Tokens(np.zeros(wire.MAX_PAYLOAD // 4, dtype=np.int32))
    with pytest.raises(RequestTooLargeError):
        wire.submit(0, 1, [huge], "interactive")
