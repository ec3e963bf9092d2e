"""Traces and metrics of sessions through OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterator

try:
    from opentelemetry import metrics, trace
    from opentelemetry.trace import Status, StatusCode
except ImportError as error:
    raise ImportError("chatsession.telemetry needs OpenTelemetry's API: pip install 'chatsession[otel]'") from error

from chatsession.observing import SessionEvent
from chatsession.storages.inspection import retries

_SCOPE = "chatsession"


def _retries(_: metrics.CallbackOptions) -> Iterator[metrics.Observation]:
    return (metrics.Observation(count, {"storage": server}) for server, count in dict(retries).items())


class OpenTelemetry:
    """An observer that records a span and metrics for each session.

    Metrics, each with the attributes `session.name` and `session.outcome`: histograms `chatsession.wait` (queue,
    lock and read), `chatsession.held` and `chatsession.commit` in seconds, `chatsession.read.size` and
    `chatsession.write.size` in bytes, and the counter `chatsession.sessions`, whose outcomes show conflicts and
    unnecessary writes. `chatsession.retries` counts the calls to Redis, PostgreSQL, NATS and MongoDB that this process
    had to retry, by `storage`. Spans are named `session <name>`, are children of the span that is current when the
    session ends, and have the same attributes.

    Args:
        keys: put the session's key on spans; off by default, because the key identifies the user.
        tracer_provider: for spans; without it, the global provider.
        meter_provider: for metrics; without it, the global provider.

    Examples:
        >>> from chatsession import SessionManager
        >>> from chatsession.telemetry import OpenTelemetry
        >>> sessions = SessionManager(int, storage="memory:", observe=OpenTelemetry())
    """

    def __init__(
        self,
        *,
        keys: bool = False,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._keys = keys
        self._tracer = trace.get_tracer(_SCOPE, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_SCOPE, meter_provider=meter_provider)
        self._count = meter.create_counter("chatsession.sessions", "1", "Sessions that were opened and have ended")
        self._wait = meter.create_histogram("chatsession.wait", "s", "Time to load a session: queue, lock and read")
        self._held = meter.create_histogram("chatsession.held", "s", "Time that a handler has its session")
        self._commit = meter.create_histogram("chatsession.commit", "s", "Time to store a session")
        self._read = meter.create_histogram("chatsession.read.size", "By", "Size of what was stored")
        meter.create_observable_counter("chatsession.retries", [_retries], "1", "Calls to a server that were retried")
        self._written = meter.create_histogram("chatsession.write.size", "By", "Size of what was written")

    def __call__(self, event: SessionEvent) -> None:
        attributes = {"session.name": event.name, "session.outcome": event.outcome}
        self._count.add(1, attributes)
        self._wait.record(event.wait, attributes)
        self._held.record(event.held, attributes)
        self._commit.record(event.commit, attributes)
        if event.read_bytes:
            self._read.record(event.read_bytes, attributes)
        if event.written_bytes:
            self._written.record(event.written_bytes, attributes)
        self._trace(event, attributes)

    def _trace(self, event: SessionEvent, attributes: dict[str, str]) -> None:
        begin = int(event.started * 1e9)
        opened = begin + int(event.wait * 1e9)
        committing = opened + int(event.held * 1e9)
        span = self._tracer.start_span(f"session {event.name}", attributes=attributes, start_time=begin)
        if not span.is_recording():
            return
        span.set_attribute("session.read_bytes", event.read_bytes)
        span.set_attribute("session.written_bytes", event.written_bytes)
        if self._keys:
            span.set_attribute("session.key", event.key)
        span.add_event("loaded", timestamp=opened)
        span.add_event("committing", timestamp=committing)
        if event.error is not None:
            span.set_status(Status(StatusCode.ERROR, event.error))
        span.end(committing + int(event.commit * 1e9))
