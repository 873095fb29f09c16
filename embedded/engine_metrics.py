"""What the simulated engine tells about itself, under vLLM's names (0.10 and later)."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

_WAIT_BUCKETS_S: Final = (0.05, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 20.0, 40.0)
_LATENCY_BUCKETS_S: Final = (0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 20.0, 40.0)


class EngineMetrics:
    """The metrics of one engine, labelled with the model (the pool) that it serves."""

    def __init__(self, model: str) -> None:
        # Without the time of creation beside each counter, which nobody here reads.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = CollectorRegistry()
        labels = ["model_name"]
        self._registry = registry
        self._running = Gauge(
            "vllm:num_requests_running", "Requests in the batch.", labels, registry=registry
        ).labels(model)
        self._waiting = Gauge(
            "vllm:num_requests_waiting", "Requests that wait.", labels, registry=registry
        ).labels(model)
        self._kv_cache_use = Gauge(
            "vllm:kv_cache_usage_perc", "KV cache in use, 1 is all.", labels, registry=registry
        ).labels(model)
        self._tokens = Counter(
            "vllm:generation_tokens", "Tokens generated.", labels, registry=registry
        ).labels(model)
        self._requests = Counter(
            "vllm:request_success", "Requests finished.", labels, registry=registry
        ).labels(model)
        self._queue_wait_s = Histogram(
            "vllm:request_queue_time_seconds",
            "Time from arrival to the batch.",
            labels,
            buckets=_WAIT_BUCKETS_S,
            registry=registry,
        ).labels(model)
        self._latency_s = Histogram(
            "vllm:e2e_request_latency_seconds",
            "Time from arrival to the answer.",
            labels,
            buckets=_LATENCY_BUCKETS_S,
            registry=registry,
        ).labels(model)

    def started(self, *, queue_wait_s: float) -> None:
        """Count a request that left the queue."""
        self._queue_wait_s.observe(queue_wait_s)

    def finished(self, *, latency_s: float, tokens: int) -> None:
        """Count a request that was answered."""
        self._requests.inc()
        self._tokens.inc(tokens)
        self._latency_s.observe(latency_s)

    def show(self, *, running: int, waiting: int, kv_cache_use: float) -> None:
        """Set what is true now."""
        self._running.set(running)
        self._waiting.set(waiting)
        self._kv_cache_use.set(kv_cache_use)

    def text(self) -> bytes:
        """Write them all in Prometheus' text format."""
        return generate_latest(self._registry)
