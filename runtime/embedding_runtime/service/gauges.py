"""The engine's metrics: one place that knows which values they get."""

from collections.abc import Collection, Iterable

from embedding_runtime import metrics
from embedding_runtime.errors import RuntimeFault
from embedding_runtime.service.policy.backlog import PRIORITIES, Backlog, Priority
from embedding_runtime.service.state import ModelCard, ModelState, State

_UNKNOWN = "unknown"

_QUEUE = {each: (metrics.QUEUE_TEXTS.labels(each), metrics.QUEUE_TOKENS.labels(each)) for each in PRIORITIES}

# Where a name stands for several revisions, the first of these that one of them is in.
_ORDER: tuple[State, ...] = ("ready", "loading", "exhausted", "load_failed")


class BatchGauges:
    """The metrics of one loaded model's batches."""

    def __init__(self, label: str) -> None:
        # Looked up once: a batch may take less than a millisecond.
        self._texts = metrics.BATCH_TEXTS.labels(label)
        self._padding = metrics.PADDING.labels(label)
        self._queue = {each: metrics.QUEUE_SECONDS.labels(label, each) for each in PRIORITIES}

    def waited(self, priority: Priority, seconds: float) -> None:
        """A request that was answered came to its first batch after so long."""
        self._queue[priority].observe(seconds)

    def ran(self, texts: int, padding: int) -> None:
        """A batch of so many texts ran, with so many tokens of padding."""
        self._texts.observe(texts)
        self._padding.inc(padding)


class QueueGauges:
    """How much waits, by class."""

    def __init__(self) -> None:
        self._told: dict[Priority, tuple[int, int]] = {}

    def show(self, backlog: Backlog) -> None:
        """Tell what has changed since it was last looked at."""
        for priority, (texts, tokens) in _QUEUE.items():
            line = backlog.line(priority)
            waiting = (len(line), line.tokens)
            if self._told.get(priority) != waiting:
                self._told[priority] = waiting
                texts.set(waiting[0])
                tokens.set(waiting[1])


class ModelGauges:
    """The metrics about models. Their label takes the names in `configured`, and of models once loaded."""

    def __init__(self, configured: Collection[str]) -> None:
        self._served = set(configured)
        self._told: set[str] = set()

    def label(self, name: str) -> str:
        """The name, `unknown` where a client made it up."""
        return name if name in self._served else _UNKNOWN

    def loaded(self, card: ModelCard, seconds: float) -> None:
        """A model was loaded in so many seconds."""
        self._served.add(card.id)
        metrics.LOAD_SECONDS.labels(card.id).observe(seconds)
        metrics.PROVIDER.labels(card.id, card.provider, card.precision).set(1)
        if card.fallback:
            metrics.FALLBACKS.labels(card.id).inc()
        if card.unprepared:
            metrics.UNPREPARED.labels(card.id).inc()
        if card.unfused:
            metrics.UNFUSED.labels(card.id).inc()

    def failed(self, name: str, error: RuntimeFault) -> None:
        """A load failed."""
        metrics.LOAD_FAILURES.labels(self.label(name), error.code).inc()

    def unloaded(self, card: ModelCard, reason: str) -> None:
        """A model was unloaded, for `budget` or `idle`."""
        metrics.EVICTIONS.labels(card.id, reason).inc()
        metrics.PROVIDER.labels(card.id, card.provider, card.precision).set(0)

    def show(self, models: Iterable[ModelState]) -> None:
        """Publish what there is now: states, memory, the number of loaded models."""
        states: dict[str, set[State]] = {name: set() for name in self._told}
        held: dict[str, int] = dict.fromkeys(self._told, 0)
        loaded = 0
        for model in models:
            if model.name in self._served:
                states.setdefault(model.name, set()).add(model.state)
                held[model.name] = held.get(model.name, 0) + (model.card.memory_bytes if model.card else 0)
            loaded += model.state == "ready"
        metrics.MODELS_LOADED.set(loaded)
        for name, present in states.items():
            self._told.add(name)
            metrics.MODEL_BYTES.labels(name).set(held[name])
            current = next((state for state in _ORDER if state in present), "available")
            for state in (*_ORDER, "available"):
                metrics.MODEL_STATE.labels(name, state).set(state == current)
