"""Gates are plug-ins: any installed package may bring one, settings say which are off and which only advise."""

import json
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
import structlog
from typer.testing import CliRunner

from infra import cli
from infra.clock import now
from infra.contracts.manifests import GateReport, Verdict
from infra.settings import ServingSettings, SettingsError, TrainerSettings
from serving.gates import OWN
from serving.gates.catalogue import GROUP, gates_for, known_gates
from serving.gates.subject import MATERIAL, files_named
from serving.report import make_report
from tests.serving.gates.test_gates import make_subject

ROOT = Path(__file__).parents[3]
STRICT = """
from infra.contracts.manifests import GateResult, Verdict

def check(subject):
    return GateResult(name="whatever", blocking=True, verdict=Verdict.FAIL, threshold=3, reason="it is a Tuesday")
"""
RAISING = "def check(subject):\n    return 1 / 0\n"
CARELESS = "def check(subject):\n    return True\n"


def install(monkeypatch: pytest.MonkeyPatch, directory: Path, source: str, *, name: str = "tuesday") -> None:
    """A distribution as an installer leaves it: a module and its metadata."""
    module = f"gate_{directory.name}_{name}".replace("-", "_")
    metadata = directory / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (directory / f"{module}.py").write_text(source)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{GROUP}]\n{name} = {module}:check\n")
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.delitem(sys.modules, module, raising=False)


def report(**settings: object) -> GateReport:
    return make_report("v2", make_subject(settings=ServingSettings.model_validate(settings)), now())


def test_our_gates_are_declared_as_the_plug_ins_that_they_are() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]
    loaded = {name: getattr(import_module(value.partition(":")[0]), value.partition(":")[2])
              for name, value in declared.items()}  # fmt: skip
    assert list(loaded.items()) == list(OWN.items())


def test_each_of_our_gates_reports_under_the_name_that_settings_call_it_by() -> None:
    assert [gate(make_subject()).name for gate in OWN.values()] == list(OWN)


def test_a_package_s_gate_comes_after_ours_and_can_say_no(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, STRICT)
    found = report()
    assert [gate.name for gate in found.gates] == [*OWN, "tuesday"]
    assert (found.verdict, found.gates[-1].reason) == (Verdict.FAIL, "it is a Tuesday")


def test_packages_gates_are_asked_by_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path / "one", STRICT, name="b")
    install(monkeypatch, tmp_path / "two", STRICT, name="a")
    assert [gate.name for gate in known_gates()][-2:] == ["a", "b"]


@pytest.mark.parametrize(("source", "told"), [(RAISING, "ZeroDivisionError"), (CARELESS, "ValidationError")])
def test_a_gate_that_fails_is_inconclusive_blocks_and_is_told_in_the_log(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, told: str
) -> None:
    install(monkeypatch, tmp_path, source)
    with structlog.testing.capture_logs() as logged:
        found = report()
    last = found.gates[-1]
    assert (found.verdict, last.blocking, last.verdict) == (Verdict.INCONCLUSIVE, True, Verdict.INCONCLUSIVE)
    assert told in last.reason
    assert [(line["event"], line["gate"]) for line in logged] == [("gate_failed", "tuesday")]


def test_a_gate_whose_module_is_gone_blocks_rather_than_vanishes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    install(monkeypatch, tmp_path, STRICT)
    next(tmp_path.glob("*.py")).unlink()
    assert report().gates[-1].reason.startswith("the gate itself failed: ModuleNotFoundError")


def test_a_gate_that_is_off_is_not_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, RAISING)
    found = report(gates_off=("tuesday", "judge"))
    assert {gate.name for gate in found.gates} == OWN.keys() - {"judge"}
    assert found.verdict is Verdict.PASS


def test_a_gate_that_only_advises_blocks_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, STRICT)
    found = report(gates_advisory=("tuesday",))
    assert (found.verdict, found.gates[-1].verdict, found.gates[-1].blocking) == (Verdict.PASS, Verdict.FAIL, False)


@pytest.mark.parametrize("setting", ["gates_off", "gates_advisory"])
def test_a_gate_that_does_not_exist_is_refused_by_name(setting: str) -> None:
    with pytest.raises(SettingsError, match=rf"serving\.{setting}: there is no gate lenght; there are validity, "):
        gates_for(ServingSettings.model_validate({setting: ("lenght",)}))


def test_two_gates_of_one_name_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, STRICT, name="judge")
    with pytest.raises(SettingsError, match="more than one gate is named judge"):
        gates_for(ServingSettings())


def test_the_files_that_gates_ask_for_are_settings_of_the_trainer() -> None:
    assert TrainerSettings.model_fields.keys() >= MATERIAL
    assert files_named({"regression_file": "checks.jsonl", "seed": 1}) == {"regression_file"}


def test_the_list_shows_each_gate_with_its_state_and_threshold(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    install(monkeypatch, tmp_path, STRICT)
    monkeypatch.setenv("THUMBWHEEL_SERVING__GATES_OFF", "judge")
    monkeypatch.setenv("THUMBWHEEL_TRAINER__REGRESSION_FILE", "checks.jsonl")
    printed = CliRunner().invoke(cli.build(), ["--home", str(tmp_path), "gate", "list", "--json"])
    found = {gate.pop("name"): gate for gate in json.loads(printed.output)}
    assert list(found) == [*OWN, "tuesday"]
    assert found["kl_anchor"] == {"state": "blocking", "threshold": 10.0, "from": "thumbwheel"}
    assert found["regression"]["state"] == "blocking"
    assert found["judge"]["state"] == "off"
    assert found["tuesday"] == {"state": "blocking", "threshold": 3.0, "from": "a plug-in"}
