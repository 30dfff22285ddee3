"""The supervisor: binds the ports once, keeps an engine process and API_WORKERS HTTP processes alive, drains.

It has one thread and no event loop: it waits for signals. HTTP processes are forked, so that they share the
memory of what is already imported; the engine is a new interpreter, so that ONNX Runtime and CUDA never meet
a fork. Each child has a process group of its own: a signal to the terminal's group reaches the supervisor
alone, which drains before the engine goes. What is decided about restarts is in `restart_delay`, about an
engine that hangs in `pulse.hung`.
"""

import gc
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from embedding_runtime.api.listening import listen
from embedding_runtime.errors import SettingsError
from embedding_runtime.lifeline import die_with
from embedding_runtime.pulse import Pulse, hung
from embedding_runtime.settings import ServeSettings
from embedding_runtime.telemetry import logger

_log = logger("supervisor")

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
_STOP = (signal.SIGTERM, signal.SIGINT)
_HEALTHY_SECONDS = 60.0
_FIRST_DELAY, _LAST_DELAY = 0.5, 30.0
# Beyond the time that the HTTP processes take for themselves, before they are killed; and for the engine to
# go.
_GRACE_SECONDS = 2.0
# sun_path holds 108 bytes with its end.
_LONGEST_SOCKET_PATH = 107
_WORKSPACE, _ENGINE_SOCKET, _ENGINE_PULSE = "embedding-runtime-", "engine.sock", "engine.pulse"
# How often the engine's signs of life are looked at.
_LOOK_SECONDS = 1.0


def restart_delay(crashes: int) -> float:
    """Seconds to wait before the next start after so many crashes in a row: 0, then 0.5 doubling up to 30."""
    return 0.0 if crashes <= 1 else min(_LAST_DELAY, _FIRST_DELAY * 2.0 ** min(crashes - 2, 16))


@dataclass
class _Child:
    name: str
    start: Callable[[], int]
    pid: int | None = None
    started: float = 0.0
    due: float = 0.0
    crashes: int = 0
    suspected: bool = False
    killed: str | None = None


def serve(settings: ServeSettings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code.

    Raises AddressInUseError and SettingsError before anything was started.
    """
    listening = listen(settings.api_host, settings.api_port)
    around = None
    if settings.metrics_port is not None:
        around = listen(settings.api_host, settings.metrics_port, "METRICS_PORT")
    workspace = _workspace()
    # From here on signals wait until the loop asks for them: none is lost, no handler runs in between.
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        folder = _metrics_folder(workspace)
        return Supervisor(settings, listening, around, workspace, folder).run()
    finally:
        shutil.rmtree(workspace, ignore_errors=True)


def _workspace() -> Path:
    """A folder of this server's own, for the engine's socket and the metrics; only its owner may enter.

    Raises SettingsError.
    """
    try:
        parent = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise SettingsError(
            [f"TMPDIR: allowed is a directory that can be written to: {error.strerror}"]
        ) from error
    longest = _LONGEST_SOCKET_PATH - len(f"/{_WORKSPACE}12345678/{_ENGINE_SOCKET}")
    if len(str(parent).encode()) > longest:
        raise SettingsError(
            [f"TMPDIR={parent}: allowed is a path of at most {longest} bytes, for a Unix socket"]
        )
    return Path(tempfile.mkdtemp(prefix=_WORKSPACE, dir=parent))


def _metrics_folder(workspace: Path) -> Path:
    folder = workspace / "metrics"
    folder.mkdir()
    # The metrics module and the children find it here.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(folder)
    return folder


class Supervisor:
    """The parent of all processes of one server."""

    def __init__(
        self,
        settings: ServeSettings,
        listening: socket.socket,
        metrics_listening: socket.socket | None,
        workspace: Path,
        metrics_folder: Path,
    ) -> None:
        self._settings, self._listening, self._metrics_listening = settings, listening, metrics_listening
        self._engine_socket = str(workspace / _ENGINE_SOCKET)
        self._pulse_path = workspace / _ENGINE_PULSE
        self._metrics_folder = str(metrics_folder)
        self._pulse = Pulse.create(self._pulse_path)
        self._engine = _Child("engine", self._start_engine)
        self._serve_http: Callable[[int], None] = lambda _: None
        self._workers = [
            _Child(f"http-{number}", partial(self._fork_worker, number))
            for number in range(settings.api_workers)
        ]

    def run(self) -> int:
        """Start everything, keep it running until a signal says stop, drain. Returns the exit code."""
        # Before the first fork, so that the HTTP processes share these pages, and after the metrics folder is
        # known, which prometheus_client reads when it is imported.
        from embedding_runtime.api.process import prepare

        self._serve_http = prepare(
            self._settings, self._listening, self._metrics_listening, self._engine_socket
        )
        gc.collect()
        gc.freeze()
        self._tell_ports()
        children = [self._engine, *self._workers]
        while True:
            wait = self._start_due(children)
            received = signal.sigtimedwait(_SIGNALS, min(wait, _LOOK_SECONDS))
            if received is not None and received.si_signo in _STOP:
                break
            self._reap(children, restart=True)
            self._look_at_engine()
        self._drain(signal.Signals(received.si_signo))
        _log.info("stopped")
        return 0

    def _tell_ports(self) -> None:
        host, port = self._listening.getsockname()[:2]
        ports = {"port": port}
        if self._metrics_listening is not None:
            ports["metrics_port"] = self._metrics_listening.getsockname()[1]
        _log.info("listening", host=host, **ports, workers=len(self._workers))

    def _start_due(self, children: list[_Child]) -> float:
        """Start what is due; the seconds until the next one is."""
        now = time.monotonic()
        for child in children:
            if child.pid is None and child.due <= now:
                child.pid, child.started = child.start(), now
        return min([3600.0, *(child.due - now for child in children if child.pid is None)])

    def _reap(self, children: list[_Child], *, restart: bool) -> None:
        from embedding_runtime import metrics

        for child in children:
            if child.pid is None:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid == 0:
                continue
            metrics.forget(pid, self._metrics_folder)
            child.pid = None
            if restart:
                self._plan_restart(child, status)

    def _plan_restart(self, child: _Child, status: int) -> None:
        now = time.monotonic()
        child.crashes = 1 if now - child.started > _HEALTHY_SECONDS else child.crashes + 1
        delay = restart_delay(child.crashes)
        child.due = now + delay
        if child is self._engine:
            from embedding_runtime import metrics

            metrics.ENGINE_RESTARTS.labels("hung" if child.killed else "crashed").inc()
        child.suspected, child.killed = False, None
        code = os.waitstatus_to_exitcode(status)
        _log.error("process ended unexpectedly", child=child.name, exit_code=code, restart_in=delay)

    def _look_at_engine(self) -> None:
        """Kill an engine that hangs: its waiters get their errors at once, and it is started again."""
        engine = self._engine
        if engine.pid is None or engine.killed:
            return
        patience = self._settings.engine_hang_secs
        found = hung(self._pulse.read(), engine.started, time.monotonic(), patience)
        # Twice in a row: a machine that stood still wakes us before the engine.
        suspected, engine.suspected = engine.suspected, found is not None
        if found and suspected:
            engine.killed = found
            _log.error("the engine hangs, killing it", hangs_in=engine.killed, pid=engine.pid)
            os.kill(engine.pid, signal.SIGKILL)

    def _drain(self, number: signal.Signals) -> None:
        """HTTP processes finish what is in flight, then the engine goes.

        They are told with the signal that came: SIGTERM lets them accept requests for a while, SIGINT does
        not. A second SIGINT cuts it short.
        """
        _log.info("stopping", signal=number.name, timeout=self._settings.shutdown_timeout_secs)
        _kill(self._workers, number)
        # Ours is the last reference that would keep new connections waiting in the backlog.
        for bound in (self._listening, self._metrics_listening):
            if bound is not None:
                bound.close()
        timeout = self._settings.shutdown_timeout_secs + _GRACE_SECONDS
        self._end(self._workers, timeout, interrupted=number == signal.SIGINT)
        _kill([self._engine], signal.SIGTERM)
        self._end([self._engine], _GRACE_SECONDS, interrupted=True)

    def _end(self, children: list[_Child], timeout: float, *, interrupted: bool) -> None:
        """Wait for children that were told to end; while HTTP processes do, the engine is kept running."""
        deadline = time.monotonic() + timeout
        while True:
            self._reap(children, restart=False)
            if all(child.pid is None for child in children):
                return
            wait = _LOOK_SECONDS
            if self._engine not in children:
                self._reap([self._engine], restart=True)
                self._look_at_engine()
                wait = min(wait, self._start_due([self._engine]))
            left = deadline - time.monotonic()
            received = signal.sigtimedwait(_SIGNALS, max(0.0, min(wait, left))) if left > 0 else None
            asked_again = received is not None and received.si_signo == signal.SIGINT
            # Somebody at a terminal who asks again does not want to wait; tools may well send SIGTERM twice.
            if left <= 0 or (asked_again and interrupted):
                _log.warning(
                    "killing what did not end", children=[child.name for child in children if child.pid]
                )
                _kill(children, signal.SIGKILL)
                deadline = time.monotonic() + _GRACE_SECONDS
            elif asked_again:
                _kill(children, signal.SIGINT)
                interrupted = True

    def _start_engine(self) -> int:
        self._pulse.forget()
        module = "embedding_runtime.service.engine_process"
        command = [sys.executable, "-m", module, self._engine_socket, str(self._pulse_path)]
        return os.posix_spawn(sys.executable, command, os.environ, setpgroup=0, setsigmask=[])

    def _fork_worker(self, number: int) -> int:
        parent = os.getpid()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            die_with(parent)
            os.setpgid(0, 0)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            self._serve_http(number)
            status = 0
        except BaseException:
            _log.exception("HTTP process failed")
        finally:
            # Never into the supervisor's own code: this is still its stack.
            sys.stderr.flush()
            os._exit(status)


def _kill(children: list[_Child], number: signal.Signals) -> None:
    for child in children:
        if child.pid is not None:
            os.kill(child.pid, number)
