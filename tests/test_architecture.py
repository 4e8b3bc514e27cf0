"""The rooms stay apart, heavy libraries stay home, and nothing happens at import."""

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("gateway", "feedback", "trainer", "serving")
HEAVY = ("torch", "transformers", "peft", "vllm")


@pytest.fixture(scope="module")
def imports() -> grimp.ImportGraph:
    return grimp.build_graph(*ROOMS, "infra", cache_dir=None)


def test_the_import_contracts_are_kept() -> None:
    done = subprocess.run([sys.executable, "-c", LINT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("room", [*ROOMS, "infra"])
def test_no_modules_import_each_other_in_a_circle(imports: grimp.ImportGraph, room: str) -> None:
    modules = imports.find_descendants(room)
    circles = {
        module
        for module in modules
        for imported in imports.find_modules_directly_imported_by(module) & modules
        if module in {imported, *reachable(imports, imported)}
    }
    assert circles == set()


@pytest.mark.parametrize("process", ["gateway.process", "feedback.main", "trainer.worker", "serving.main", "infra.cli"])
def test_no_process_but_the_ones_that_compute_holds_a_heavy_library(process: str) -> None:
    assert imported_by(f"import {process}") & set(HEAVY) == set()


def test_the_commands_of_all_rooms_together_hold_no_heavy_library() -> None:
    assert imported_by("from infra.cli import build; build()") & set(HEAVY) == set()


def test_the_gateway_imports_few_modules_and_so_starts_quickly() -> None:
    assert len(modules_after("import gateway.process")) < 1100  # under two seconds on two cores


@pytest.mark.parametrize("room", [*ROOMS, "infra"])
def test_importing_a_room_imports_nothing_else_of_ours(room: str) -> None:
    ours = {name for name in modules_after(f"import {room}") if name.partition(".")[0] in (*ROOMS, "infra")}
    assert ours == {room}


def test_only_one_file_reads_the_environment_for_settings() -> None:
    """Others pass the environment on to processes that they start, which is another thing."""
    readers = {
        str(path.relative_to(ROOT))
        for room in (*ROOMS, "infra")
        for path in (ROOT / room).rglob("*.py")
        if "os.getenv" in (text := path.read_text()) or "os.environ.get" in text
    }
    assert readers == set()


def reachable(imports: grimp.ImportGraph, module: str) -> set[str]:
    return imports.find_upstream_modules(module)


def imported_by(code: str) -> set[str]:
    return {name.partition(".")[0] for name in modules_after(code)}


def modules_after(code: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {code}; print(*sys.modules)"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


LINT = "from importlinter.cli import lint_imports; import sys; sys.exit(lint_imports())"
