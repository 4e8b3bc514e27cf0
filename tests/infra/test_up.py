from pathlib import Path

import pytest

from infra.base_model import NotAModel
from infra.home import base_directory, prepare, remember
from infra.programs import StopStage, programs
from infra.settings import load_settings
from infra.stack import StackState, StackStatus, current_status, write_status
from infra.up import detach, down, make_plan
from tests.support.model_files import make_model_files


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("THUMBWHEEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_the_model_named_on_the_command_line_reaches_every_process(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home.parent)
    monkeypatch.setenv("THUMBWHEEL_SERVING__MODEL", "another")
    plan = make_plan(Path("mine"), 8181)
    assert plan.settings.serving.model == str(home.parent / "mine")
    assert load_settings(environ=plan.environ) == plan.settings
    assert plan.settings.gateway.port == 8181


def test_a_model_that_was_started_once_need_not_be_named_again(home: Path) -> None:
    prepare(load_settings())
    remember(make_plan(make_model_files(home.parent / "mine")).settings)
    assert make_plan().settings.serving.model == str(home.parent / "mine")
    assert make_plan(Path("/another")).settings.serving.model == "/another"
    assert base_directory(load_settings()) == home.parent / "mine"


def test_a_command_that_needs_the_base_says_so_where_there_is_none(home: Path) -> None:
    with pytest.raises(NotAModel, match=r"serving\.model is not set"):
        base_directory(load_settings())


def test_a_free_port_is_chosen_once_so_that_a_restarted_gateway_keeps_its_address(home: Path) -> None:
    plan = make_plan(port=0)
    assert plan.settings.gateway.port > 0
    assert plan.environ["THUMBWHEEL_GATEWAY__PORT"] == str(plan.settings.gateway.port)


def test_every_replica_is_a_process_and_engines_stop_last(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_SERVING__REPLICAS", "2")
    stages = {program.name: program.stage for program in programs(make_plan().settings)}
    assert {name for name, stage in stages.items() if stage is StopStage.ENGINE} == {"replica-0", "replica-1"}
    assert stages["gateway"] is min(StopStage)
    assert set(stages) == {"replica-0", "replica-1", "gateway", "feedback", "trainer", "controller"}


def test_engines_of_the_next_model_are_numbered_on_and_told_so(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_SERVING__NEXT_MODEL", "/models/next")
    monkeypatch.setenv("THUMBWHEEL_SERVING__NEXT_REPLICAS", "2")
    named = {program.name: program.argv[3:] for program in programs(make_plan().settings)}
    assert named["replica-0"] == ("--name", "replica-0")
    assert named["replica-2"] == ("--name", "replica-2", "--next")


def test_the_first_of_several_consumers_bears_the_rooms_name_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBWHEEL_FEEDBACK__PROCESSES", "2")
    named = {program.name: program.argv[-1] for program in programs(make_plan().settings)}
    assert {name: last for name, last in named.items() if name.startswith("feedback")} == {
        "feedback": "feedback", "feedback-1": "feedback-1"
    }  # fmt: skip


def test_a_detached_start_that_cannot_be_is_refused_by_the_command_itself(home: Path) -> None:
    with pytest.raises(RuntimeError, match="no model given"):
        detach(make_plan(port=0), lambda _status: None)
    assert not (home / "keys.json").exists()


def test_prepare_makes_all_a_process_expects_to_find(home: Path) -> None:
    keys = prepare(load_settings())
    assert keys == home / "keys.json"
    assert all((home / name).exists() for name in ("logs", "run/secret", "run/engine-key", "state.db"))
    assert (home / "run" / "secret").stat().st_mode & 0o777 == 0o600


def test_down_where_nothing_ever_ran_stops_nothing(home: Path) -> None:
    assert down(home) is False


def test_a_stack_whose_supervisor_is_dead_is_no_running_stack(home: Path) -> None:
    write_status(home, StackStatus(StackState.READY, pid=2**22 - 1, started=1.0))
    assert current_status(home).state is StackState.STOPPED
