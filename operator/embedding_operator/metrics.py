"""The operator's own Prometheus metrics. Where they are counted is up to the callers."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter(
    "embedding_operator_reconciles", "Reconciles, by how they ended", ["result"]
)  # result: ok, error, gone
RECONCILE_SECONDS = Histogram(
    "embedding_operator_reconcile_seconds",
    "Duration of one reconcile",
    buckets=(0.001, 0.005, 0.02, 0.1, 0.5, 2, 10, 30),
)
QUEUE_DEPTH = Gauge("embedding_operator_queue_depth", "Keys that wait for a worker")
QUEUE_OLDEST_SECONDS = Gauge("embedding_operator_queue_oldest_seconds", "How long the oldest key has waited")
WATCH_EVENTS = Counter("embedding_operator_watch_events", "Watch events received, by kind", ["kind"])
API_REQUESTS = Counter(
    "embedding_operator_api_requests", "Requests to the API server, watches aside", ["verb", "kind", "code"]
)
