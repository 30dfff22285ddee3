"""The engine's models: which are wanted, loading, loaded, failed; who waits for them; who has to go.

Everything here runs on the engine's event loop, so there are no locks. Loading and computing report from
their threads through `call`, which is the loop's call_soon_threadsafe. What is decided about memory is in
`residency`, about failures in `failures`.
"""

import itertools
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from embedding_runtime.errors import OutOfMemoryError, OverloadedError, RuntimeFault
from embedding_runtime.model.source import ModelSource
from embedding_runtime.model.wanted import Wanted
from embedding_runtime.service import failures, residency
from embedding_runtime.service.compute import Compute
from embedding_runtime.service.failures import Failure
from embedding_runtime.service.gauges import ModelGauges
from embedding_runtime.service.loader import Loader
from embedding_runtime.service.loading import Loaded
from embedding_runtime.service.policy.window import Limits
from embedding_runtime.service.residency import Resident
from embedding_runtime.service.state import EngineState, ModelCard, ModelState
from embedding_runtime.settings import Task
from embedding_runtime.telemetry import logger

_log = logger("models")

Waiter = Callable[[int | RuntimeFault], None]

# Loads that may be under way at once, and failures of models that are no default which are remembered.
_MOST_LOADING, _MOST_REMEMBERED = 32, 64
_NO_ROOM_SECONDS, _ROOM_SOON_SECONDS = 5.0, 1.0


@dataclass(frozen=True)
class Policy:
    """What models may hold, for how long unused, and what their batches may.

    `batch_tokens` None: as the calibration says. `batch_texts` by task.
    """

    batch_texts: Mapping[Task, int]
    batch_tokens: int | None = None
    budget: int | None = None
    idle_seconds: float | None = None


@dataclass
class _Entry:
    slot: int
    wanted: Wanted
    default: bool
    waiters: list[Waiter] = field(default_factory=list)
    source: ModelSource | None = None
    building: bool = False
    leaving: set[int] = field(default_factory=set)
    card: ModelCard | None = None
    failure: Failure | None = None
    loading: bool = True

    def state(self) -> ModelState:
        """What the HTTP processes are told."""
        state = ModelState(self.slot, self.wanted, default=self.default)
        if self.card:
            return ModelState(self.slot, self.wanted, "ready", "", "", default=self.default, card=self.card)
        if self.failure:
            error = self.failure.error
            name = "loading" if self.loading else failures.state(error)
            return ModelState(
                self.slot, self.wanted, name, error.code, error.message, error.permanent, self.default
            )
        return state


class Residents:
    """Every model that the engine knows.

    `publish` gets each new state; `call(function)` runs a function on the event loop, from any thread.
    """

    def __init__(
        self,
        defaults: Sequence[Wanted],
        configured: Collection[str],
        loader: Loader,
        compute: Compute,
        policy: Policy,
        publish: Callable[[EngineState], None],
        call: Callable[[Callable[[], None]], object],
    ) -> None:
        self._loader, self._compute, self._policy = loader, compute, policy
        self._publish, self._call = publish, call
        self._slots = itertools.count()
        self._gauges = ModelGauges(configured)
        self._entries = {wanted: _Entry(next(self._slots), wanted, default=True) for wanted in defaults}

    @property
    def state(self) -> EngineState:
        """All models as they are now."""
        return EngineState(tuple(entry.state() for entry in self._entries.values()))

    @property
    def cards(self) -> list[ModelCard]:
        """The models that are loaded."""
        return [entry.card for entry in self._entries.values() if entry.card]

    def start(self) -> None:
        """Begin to load the default models."""
        for entry in self._entries.values():
            self._fetch(entry)

    def want(self, wanted: Wanted, waiter: Waiter) -> None:
        """Have a model ready; `waiter` is called once, with its slot or with what went wrong."""
        entry = self._entries.get(wanted)
        if entry is None:
            if sum(entry.loading for entry in self._entries.values()) >= _MOST_LOADING:
                waiter(OverloadedError(f"{_MOST_LOADING} models are being loaded already", retry_after=10))
                return
            self._forget_oldest()
            entry = self._entries[wanted] = _Entry(next(self._slots), wanted, default=False)
            entry.waiters.append(waiter)
            self._fetch(entry)
        elif entry.card:
            waiter(entry.slot)
        elif entry.loading:
            entry.waiters.append(waiter)
        elif entry.failure and (error := entry.failure.told(time.monotonic())):
            waiter(error)
        else:
            entry.waiters.append(waiter)
            self._fetch(entry)

    def tick(self) -> None:
        """Once a second or so: try failed default models again, unload what is idle."""
        now = time.monotonic()
        for entry in list(self._entries.values()):
            if entry.failure and not entry.loading and entry.failure.due(now, by_itself=entry.default):
                self._fetch(entry)
        idle = residency.idle(self._residents(), now, self._policy.idle_seconds)
        for slot in idle:
            self._unload(slot, "idle")
        if idle:
            self._changed()

    def make_room(self) -> bool:
        """Unload what has no work and is no default model; whether there was any."""
        going = residency.leaving(self._residents())
        for each in going:
            self._unload(each.slot, "budget")
        if going:
            self._changed()
        return bool(going)

    def _fetch(self, entry: _Entry) -> None:
        entry.slot, entry.loading = next(self._slots), True
        self._changed()
        self._loader.fetch(entry.wanted, lambda result: self._report(lambda: self._fetched(entry, result)))

    def _fetched(self, entry: _Entry, result: ModelSource | RuntimeFault) -> None:
        if isinstance(result, RuntimeFault):
            self._fail(entry, result)
            return
        entry.source = result
        going = residency.to_unload(self._residents(), result.bytes, self._policy.budget)
        if going is None and not entry.default:
            self._fail(entry, self._no_room(result))
            return
        if going is None:
            _log.warning("over the memory budget with a default model", model=entry.wanted.name)
        entry.building = True
        self._build_after(entry, going or [])

    def _no_room(self, source: ModelSource) -> OutOfMemoryError:
        residents = self._residents()
        held = sum(each.bytes for each in residents)
        # What only has work now may go soon.
        soon = any(each.busy and not each.kept for each in residents)
        return OutOfMemoryError(
            f"{source.id} needs {source.bytes >> 20} MiB; MODEL_MEMORY_BUDGET_BYTES is "
            f"{(self._policy.budget or 0) >> 20} MiB, of which {held >> 20} MiB are in use by default models "
            "and by models with work",
            retry_after=_ROOM_SOON_SECONDS if soon else _NO_ROOM_SECONDS,
        )

    def _build_after(self, entry: _Entry, going: Sequence[int]) -> None:
        """Build as soon as the memory of those that have to go is given back."""
        entry.leaving = set(going)
        for slot in going:
            self._unload(slot, "budget")
        if going:
            self._changed()
        else:
            self._build(entry)

    def _build(self, entry: _Entry) -> None:
        if entry.source is None:
            raise AssertionError("what was not fetched cannot be built")
        self._loader.build(
            entry.wanted,
            entry.source,
            lambda result: self._report(lambda: self._built(entry, result)),
        )

    def _built(self, entry: _Entry, result: Loaded | RuntimeFault) -> None:
        if isinstance(result, OutOfMemoryError) and (others := residency.leaving(self._residents())):
            # The device is full, whatever the budget says: the least recently used makes room.
            self._build_after(entry, [others[0].slot])
            return
        if isinstance(result, RuntimeFault):
            self._fail(entry, result)
            return
        tokens = self._policy.batch_tokens or result.costs.best_tokens
        texts = self._policy.batch_texts[result.card.recipe.task]
        limits = Limits(tokens, texts, result.backend.grid)
        entry.card, entry.failure, entry.loading, entry.building = result.card, None, False, False
        entry.source = None
        self._gauges.loaded(result.card, result.seconds)
        self._compute.open(entry.slot, result.backend, result.costs, limits, entry.wanted.name)
        # It may hold more than its files, which was all that could be known before.
        for slot in self._surplus(entry.slot):
            self._unload(slot, "budget")
        self._changed()
        self._tell(entry, entry.slot)

    def _surplus(self, fresh: int) -> list[int]:
        """Those that have to go since the one in `fresh` turned out to be larger than its files."""
        others = [each for each in self._residents() if each.slot != fresh]
        (own,) = [each.bytes for each in self._residents() if each.slot == fresh]
        going = residency.to_unload(others, own, self._policy.budget)
        return [each.slot for each in residency.leaving(others)] if going is None else going

    def _fail(self, entry: _Entry, error: RuntimeFault) -> None:
        entry.loading, entry.building, entry.source = False, False, None
        entry.failure = failures.after(entry.failure, error, time.monotonic())
        self._gauges.failed(entry.wanted.name, error)
        log = _log.error if error.permanent else _log.warning
        log(
            "model cannot be loaded",
            model=entry.wanted.name,
            revision=entry.wanted.revision,
            code=error.code,
            error=error.message,
            retry_in=round(entry.failure.seconds, 1),
        )
        self._changed()
        self._tell(entry, error)

    def _unload(self, slot: int, reason: str) -> None:
        (entry,) = [entry for entry in self._entries.values() if entry.slot == slot and entry.card]
        if entry.card is None:
            raise AssertionError("only a loaded model can be unloaded")
        del self._entries[entry.wanted]
        self._gauges.unloaded(entry.card, reason)
        _log.info("model unloaded", model=entry.wanted.name, reason=reason, bytes=entry.card.memory_bytes)
        self._compute.close(slot, lambda: self._report(lambda: self._closed(slot)))

    def _closed(self, slot: int) -> None:
        for entry in list(self._entries.values()):
            if slot in entry.leaving:
                entry.leaving.discard(slot)
                if not entry.leaving:
                    self._build(entry)

    def _residents(self) -> list[Resident]:
        """What holds memory, or is about to."""
        usage = self._compute.usage()
        found = []
        for entry in self._entries.values():
            if entry.card and entry.slot in usage:
                used = usage[entry.slot]
                found.append(
                    Resident(entry.slot, entry.card.memory_bytes, entry.default, used.busy, used.last_used)
                )
            elif entry.building and entry.source:
                found.append(Resident(entry.slot, entry.source.bytes, entry.default, True, 0.0))
        return found

    def _forget_oldest(self) -> None:
        failed = [entry for entry in self._entries.values() if entry.failure and not entry.default]
        for entry in failed[: max(0, len(failed) - _MOST_REMEMBERED + 1)]:
            if not entry.loading:
                del self._entries[entry.wanted]

    def _tell(self, entry: _Entry, result: int | RuntimeFault) -> None:
        waiters, entry.waiters = entry.waiters, []
        for waiter in waiters:
            waiter(result)

    def _changed(self) -> None:
        state = self.state
        self._gauges.show(state.models)
        self._publish(state)

    def _report(self, what: Callable[[], None]) -> None:
        self._call(what)
