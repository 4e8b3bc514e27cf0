"""TensorBoard and MLflow, for those who have them: optional extras, imported only where trainer.report_to asks."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from infra.settings import SettingsError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from torch.utils.tensorboard import SummaryWriter

EXPERIMENT = "thumbwheel"


class TensorBoard:
    """Events in a directory of this run. Those after the first step written here are void: a resume does them again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._parts: list[TensorBoard] = []
        self._writer: SummaryWriter | None = None

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        writer = self._opened(step)
        for name, value in metrics.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    def part(self, name: str) -> "TensorBoard":
        """A run beside this one: TensorBoard draws runs under one name of a figure into one chart."""
        self._parts.append(TensorBoard(self._directory / name))
        return self._parts[-1]

    def __exit__(self, *exception: object) -> None:
        for part in self._parts:
            part.__exit__(*exception)
        if self._writer is not None:
            self._writer.close()

    def _opened(self, step: int) -> "SummaryWriter":
        if self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._directory), purge_step=step)
        return self._writer


@dataclass(frozen=True, slots=True)
class Mlflow:
    """A run of MLflow's. It keeps every value of a step: after a resume a step that was done again has two."""

    client: "MlflowClient"
    run_id: str
    prefix: str = ""

    def write(self, step: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self.client.log_metric(self.run_id, f"{self.prefix}{name}", value, step=step)

    def part(self, name: str) -> "Mlflow":
        return Mlflow(self.client, self.run_id, f"{self.prefix}{name}/")

    def __exit__(self, *exception: object) -> None:
        self.client.set_terminated(self.run_id, "FAILED" if any(exception) else "FINISHED")


def open_tensorboard(directory: Path, run: str) -> TensorBoard:
    """Raises SettingsError where it isn't installed."""
    _need("tensorboard")
    return TensorBoard(directory / "tensorboard" / run)


def open_mlflow(directory: Path, run: str) -> Mlflow:
    """On MLFLOW_TRACKING_URI, else a file in `directory`. Raises SettingsError where it isn't installed."""
    _need("mlflow")
    import mlflow

    address = None if mlflow.is_tracking_uri_set() else f"sqlite:///{directory.absolute() / 'mlflow.db'}"
    client = mlflow.MlflowClient(address)
    known = client.get_experiment_by_name(EXPERIMENT)
    experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
    return Mlflow(client, client.create_run(experiment, run_name=run).info.run_id)


def _need(package: str) -> None:
    if find_spec(package) is None:
        raise SettingsError(
            f"trainer.report_to: {package} is not installed; `pip install 'thumbwheel[{package}]'` installs it"
        )
