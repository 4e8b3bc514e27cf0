"""`thumbwheel up`: checks, prepares, and supervises, in the foreground or as a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from infra.child import tail
from infra.home import prepare, remember, remembered_model
from infra.logs import configure_logging
from infra.preflight import free_port, refuse_unfit
from infra.processes import ProcessRecord, group_members, is_alive, kill, wait_until_gone
from infra.programs import programs
from infra.settings import HOME_VARIABLE, Settings, load_settings, variable
from infra.stack import StackState, StackStatus, current_status, last_status
from infra.supervisor import Supervisor, only_one, sweep

Observer = Callable[[StackStatus], None]

WATCH_S = 0.1
STOP_TIMEOUT_S = 90  # the gateway's drain, the workers', the engine's, and some


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start: the settings, and the environment that gives every process the same."""

    settings: Settings
    environ: dict[str, str]

    @property
    def home(self) -> Path:
        return self.settings.home


def make_plan(model: Path | None = None, port: int | None = None, profile: str | None = None) -> Plan:
    """The environment's and file's settings with the command's own on top. Raises SettingsError.

    Where none of them names a model it is the one that was started here last.
    A free port is picked here, once: a restarted gateway comes back at the address that clients know.
    """
    environ = dict(os.environ)
    if port is not None:
        environ[variable("gateway", "port")] = str(port)
    if model is not None:
        environ[variable("serving", "model")] = str(model)
    if profile is not None:
        environ[variable("infra", "profile")] = profile
    settings = load_settings(environ=environ)
    environ[HOME_VARIABLE] = str(settings.home)
    if chosen := settings.serving.model or remembered_model(settings.home):
        environ[variable("serving", "model")] = str(Path(chosen).absolute())
    if settings.gateway.port == 0:
        environ[variable("gateway", "port")] = str(free_port(settings.gateway.host))
    return Plan(load_settings(environ=environ), environ)


def supervise(plan: Plan, observer: Observer) -> StackStatus:
    """Runs the stack until SIGTERM or SIGINT. Raises AlreadyRunning or Unfit before anything is started."""
    with only_one(plan.home):
        _make_ready(plan)
        configure_logging(plan.settings.infra, process="supervisor")
        supervisor = Supervisor(
            plan.home,
            programs(plan.settings),
            plan.environ,
            start_timeout_s=plan.settings.serving.start_timeout_s,
            observer=observer,
        )
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: supervisor.ask_to_stop())
        supervisor.run()
        return supervisor.status()


def detach(plan: Plan, observer: Observer) -> StackStatus:
    """Starts a supervisor of its own and returns when it is ready or has failed. Raises AlreadyRunning or Unfit."""
    with only_one(plan.home):
        _make_ready(plan)
    log_file = plan.home / "logs" / "supervisor.log"
    with log_file.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "infra.cli", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=plan.environ,
            start_new_session=True,
        )
    try:
        return _watch(plan.home, process, log_file, observer)
    except KeyboardInterrupt:
        process.terminate()
        process.wait(STOP_TIMEOUT_S)
        raise


def down(home: Path, *, timeout_s: float = STOP_TIMEOUT_S) -> bool:
    """Stops the stack and whatever is left of an earlier one; returns whether there was anything to stop."""
    supervisor = last_status(home).supervisor
    ran = bool(supervisor.pid) and is_alive(supervisor)
    if ran:
        os.kill(supervisor.pid, signal.SIGTERM)
        if not wait_until_gone(supervisor, timeout_s):
            _kill_supervisor(supervisor)
    return bool(sweep(home)) or ran


def _make_ready(plan: Plan) -> None:
    sweep(plan.home)
    refuse_unfit(plan.settings)
    prepare(plan.settings)
    remember(plan.settings)


def _watch(home: Path, process: "subprocess.Popen[bytes]", log_file: Path, observer: Observer) -> StackStatus:
    while process.poll() is None:
        status = current_status(home)
        if status.pid == process.pid:
            observer(status)
            if status.state is StackState.READY:
                return status
        time.sleep(WATCH_S)
    status = last_status(home)
    if status.pid == process.pid and status.state is StackState.FAILED:
        return status
    last = next((line for line in reversed(tail(log_file, 20)) if line.strip()), "it wrote nothing")
    return StackStatus(StackState.FAILED, problem=last, exit_code=process.returncode or 1)


def _kill_supervisor(supervisor: ProcessRecord) -> None:
    kill([process for process in group_members(supervisor) if process.pid == supervisor.pid])
