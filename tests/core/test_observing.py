"""What became of each session is told to an observer, without its data, and to OpenTelemetry."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from core_aids import Context, RecordingMemory, Way
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chatsession import SessionConflictError, SessionEncodeError, SessionEvent, SessionManager, log_sessions
from chatsession.storages import Action, Change, Storage
from chatsession.storages._shared.retries import retried
from chatsession.telemetry import OpenTelemetry


def observed(storage: Storage, **options: Any) -> tuple[SessionManager[Any], list[SessionEvent]]:
    events: list[SessionEvent] = []
    return SessionManager(dict, storage=storage, prefix="p:", observe=events.append, **options), events


async def test_each_session_is_told_once_with_its_outcome(storage: Storage, way: Way) -> None:
    sessions, events = observed(storage)

    async def write(access: Any) -> None:
        (await access.get())["secret"] = 1

    async def look(access: Any) -> None:
        await access.get()

    async def delete(access: Any) -> None:
        await access.get()
        access.set(None)

    async def fail(access: Any) -> None:
        (await access.get())["secret"] = 2
        raise ZeroDivisionError

    async with sessions:
        for handler in (write, look, delete):
            await way(sessions, 1, handler)
        with pytest.raises(ZeroDivisionError):
            await way(sessions, 1, fail)
    assert [event.outcome for event in events] == ["written", "unchanged", "deleted", "failed"]
    assert {event.key for event in events} == {"1"}
    assert (events[0].read_bytes, events[0].written_bytes) == (0, len(b'{"secret":1}'))
    assert (events[1].read_bytes, events[1].written_bytes) == (len(b'{"secret":1}'), 0)
    assert all(event.started > 0 and event.wait > 0 and event.held >= 0 and event.commit >= 0 for event in events)
    assert not any("secret" in repr(event) for event in events)


async def test_errors_and_conflicts_are_told(storage: Storage) -> None:
    sessions, events = observed(storage, concurrency="optimistic", ttl=50)
    async with sessions:
        with pytest.raises(SessionEncodeError):
            async with sessions.open(1) as s:
                s.data["x"] = object()
        with pytest.raises(SessionConflictError):
            async with sessions.open(1) as s:
                s.data["x"] = 1
                await storage.commit_many([Change("p:1", Action.PUT, b"{}")])
        await storage.commit_many([Change("p:1", Action.PUT, b"no json")])
        with pytest.raises(Exception, match="not fit"):
            async with sessions.open(1):
                pass
        await storage.commit_many([Change("p:1", Action.PUT, b"{}")])
        async with sessions.open(1) as s:
            assert s.data == {}
    assert [(event.outcome, event.error) for event in events] == [
        ("error", "SessionEncodeError"),
        ("conflict", "SessionConflictError"),
        ("error", "SessionDecodeError"),
        ("touched", None),
    ]


async def test_a_cancelled_handler_is_told(storage: Storage) -> None:
    sessions, events = observed(storage)
    async with sessions:
        begun = asyncio.Event()

        async def handler() -> None:
            async with sessions.open(1) as s:
                s.data["x"] = 1
                begun.set()
                await asyncio.Event().wait()

        handling = asyncio.create_task(handler())
        await begun.wait()
        handling.cancel()
        await asyncio.wait([handling])
    assert [event.outcome for event in events] == ["failed"]


async def test_sessions_opened_together_are_told(storage: Storage) -> None:
    sessions, events = observed(storage)
    async with sessions, sessions.open_many([1, 2]) as opened:
        opened[0].data["x"] = 1
    assert sorted((event.key, event.outcome) for event in events) == [("1", "written"), ("2", "unchanged")]
    assert all(event.wait > 0 for event in events)


async def test_an_observer_that_fails_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def observe(event: SessionEvent) -> None:
        raise ZeroDivisionError

    async with SessionManager(int, storage=RecordingMemory(), observe=observe) as sessions:
        await sessions.update(1, lambda count: count + 1)
        assert await sessions.get(1) == 1
    assert "the observer of sessions failed" in caplog.text


async def test_log_lines_are_structured_and_hold_no_data(caplog: pytest.LogCaptureFixture) -> None:
    async with SessionManager(str, storage=RecordingMemory(), observe=log_sessions) as sessions:
        with caplog.at_level(logging.DEBUG, "chatsession"):
            await sessions.update(1, lambda _: "a secret")
    record: Any = caplog.records[-1]
    assert (record.session_key, record.session_outcome, record.session_written_bytes) == ("1", "written", 10)
    assert "secret" not in str(vars(record))


async def test_opentelemetry_gets_spans_and_metrics() -> None:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    meters = MeterProvider([reader])
    observe = OpenTelemetry(tracer_provider=tracers, meter_provider=meters)
    retried("Redis")
    async with SessionManager(int, storage=RecordingMemory(), observe=observe) as sessions:
        with tracers.get_tracer("test").start_as_current_span("update") as update:
            ctx = Context(424242)

            async def handler() -> None:
                ctx.session += 1

            await sessions.middleware()(ctx, handler)
    span = spans.get_finished_spans()[0]
    assert span.name == "session session"
    assert span.parent is not None
    assert span.parent.span_id == update.get_span_context().span_id
    assert [event.name for event in span.events] == ["loaded", "committing"]
    assert dict(span.attributes or {}) == {
        "session.name": "session",
        "session.outcome": "written",
        "session.read_bytes": 0,
        "session.written_bytes": 1,
    }
    assert "424242" not in span.to_json()
    data = reader.get_metrics_data()
    assert data is not None
    names = {metric.name for scope in data.resource_metrics[0].scope_metrics for metric in scope.metrics}
    assert names == {
        *("chatsession.sessions", "chatsession.wait", "chatsession.held", "chatsession.commit"),
        *("chatsession.write.size", "chatsession.retries"),
    }
    meters.shutdown()
    tracers.shutdown()
