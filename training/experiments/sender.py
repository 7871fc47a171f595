"""From the spool to MLflow: each record by one or two calls, in order, again and again until the server has taken it.

Every record can be said twice: runs are found by their tags, metrics have the time at which they were measured, files
replace files. So a process that was killed between saying and noting it leaves no double.
"""

import logging
import threading
import time
from pathlib import Path

import mlflow
import requests
from mlflow.entities import Dataset, DatasetInput, InputTag, LoggedModelOutput, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from training.experiments.spool import Record, Spool

logger = logging.getLogger(__name__)

PIPELINE_TAG, STAGE_TAG = "onepixel.pipeline", "onepixel.stage"
PAUSES = (0.5, 1, 2, 5, 10)
"""Seconds before the server is asked again, each time it did not answer; the last one from then on."""
NOT_NOW = (401, 403, 408, 429, 503)
"""HTTP's status codes that another time may be other: a login that ended, too many requests, a database away."""
ATTEMPTS = 3
"""How often a record is tried that the server answers, but does not take; then it is left out, with a warning."""


class Sender:
    """Says a spool's records on a thread of its own.

    Parameters
    ----------
    spool
        What is to be said.
    uri
        Of MLflow.
    """

    def __init__(self, spool: Spool, uri: str) -> None:
        self._spool, self._uri = spool, uri
        self._client = mlflow.MlflowClient(uri)
        self._changed = threading.Condition()
        self._ended = False
        self.run_id: str | None = None
        """The open pipeline's run; None as long as the server has not made it."""
        self._stage_id: str | None = None
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is something new to say."""
        with self._changed:
            self._changed.notify_all()

    def wait_run(self, seconds: float) -> str | None:
        """Wait for the pipeline's run; return its identifier, or None where the server does not answer in time."""
        with self._changed:
            self._changed.wait_for(lambda: self.run_id is not None, seconds)
        return self.run_id

    def close(self, seconds: float) -> int:
        """Wait until all has been said, for so long at most; return how many records have not."""
        with self._changed:
            self._changed.wait_for(lambda: self._spool.waiting == 0, seconds)
            self._ended = True
            self._changed.notify_all()
        return self._spool.waiting

    def _run(self) -> None:
        failures = refusals = 0
        while not self._ended:
            record = self._spool.next()
            if record is None:
                with self._changed:
                    self._changed.wait_for(lambda: self._ended or self._spool.waiting > 0)
                continue
            try:
                self._say(record)
            except Exception as error:
                if is_away(error) or self.run_id is None:  # without the run nothing can be said, so nothing is left out
                    if failures == 0:
                        does = "does not answer" if is_away(error) else "makes no run"
                        logger.warning("MLflow at %s %s; what is to be said is kept: %s", self._uri, does, error)
                    with self._changed:
                        self._changed.wait_for(lambda: self._ended, PAUSES[min(failures, len(PAUSES) - 1)])
                    failures += 1
                    continue
                refusals += 1
                if refusals < ATTEMPTS:
                    time.sleep(0.2 * refusals)
                    continue
                logger.warning("MLflow does not take %s; it is left out: %s", record["kind"], error)
            if failures:
                logger.warning("MLflow at %s answers again", self._uri)
            failures = refusals = 0
            self._spool.said(record)
            with self._changed:
                self._changed.notify_all()

    def _say(self, record: Record) -> None:
        getattr(self, f"_say_{record['kind']}")(record)

    def _say_pipeline(self, record: Record) -> None:
        experiment_id = ensure_experiment(self._client, record["experiment"])
        found = self._find(experiment_id, f"tags.`{PIPELINE_TAG}` = '{record['key']}'")
        if found:
            run_id = found[0].info.run_id
            self._client.set_terminated(run_id, "RUNNING")
        else:
            tags = {PIPELINE_TAG: record["key"]}
            run_id = self._client.create_run(
                experiment_id, record["time"], tags=tags, run_name=record["name"]
            ).info.run_id
        self.run_id, self._stage_id, self._experiment_id = run_id, None, experiment_id
        with self._changed:
            self._changed.notify_all()

    def _say_stage(self, record: Record) -> None:
        run_id = self._pipeline()
        query = f"tags.`{STAGE_TAG}` = \"{record['name']}\" AND tags.mlflow.parentRunId = '{run_id}'"
        for run in self._find(self._experiment_id, query):  # what a killed pipeline, or a lost answer, left
            for model in run.outputs.model_outputs if run.outputs else []:
                self._client.delete_logged_model(model.model_id)
            self._client.delete_run(run.info.run_id)
        tags = {STAGE_TAG: record["name"], "mlflow.parentRunId": run_id}
        made = self._client.create_run(self._experiment_id, record["time"], tags=tags, run_name=record["name"])
        self._stage_id = made.info.run_id

    def _say_end(self, record: Record) -> None:
        self._client.set_terminated(self._open(record), record["status"], record["time"])

    def _say_parameters(self, record: Record) -> None:
        run_id = self._open(record)
        known = self._client.get_run(run_id).data.params  # a parameter that the run has stays as it was
        new = [Param(key, value) for key, value in record["values"].items() if key not in known]
        for first in range(0, len(new), 100):  # MLflow's most for one call
            self._client.log_batch(run_id, params=new[first : first + 100])

    def _say_tags(self, record: Record) -> None:
        tags = [RunTag(key, value) for key, value in record["values"].items()]
        self._client.log_batch(self._open(record), tags=tags)

    def _say_metrics(self, record: Record) -> None:
        metrics = [Metric(key, value, record["time"], step) for key, step, value in record["points"]]
        for first in range(0, len(metrics), 1000):  # MLflow's most for one call
            self._client.log_batch(self._open(record), metrics=metrics[first : first + 1000])
        if record["pipeline_too"]:
            run_id = self._pipeline()
            told = {key: self._client.get_metric_history(run_id, key) for key, _, _ in record["points"]}
            new = [metric for metric in metrics if all(point.step != metric.step for point in told[metric.key])]
            self._client.log_batch(run_id, metrics=new)

    def _say_file(self, record: Record) -> None:
        path = self._spool.file(record["path"])
        if path.exists():  # else it was said, and its note was lost with the process
            self._client.log_artifact(self._open(record), str(path), record["folder"] or None)

    def _say_dataset(self, record: Record) -> None:
        given = Dataset(
            name=record["name"],
            digest=record["digest"],
            source_type="local",
            source=record["source"],
            profile=record["profile"],
        )
        tags = [InputTag("mlflow.data.context", record["context"])]
        self._client.log_inputs(self._open(record), [DatasetInput(given, tags)])

    def _say_model(self, record: Record) -> None:
        from training.experiments.model_folder import log_model

        run_id = self._open(record)
        model, example = self._spool.file(record["model"]), self._spool.file(record["path"])
        model_id = log_model(self._client, self._experiment_id, run_id, model, example, "model")
        self._client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])

    def _open(self, record: Record) -> str:
        """Return the run that a record is of: the open stage's, or the pipeline's."""
        if not record["stage"]:
            return self._pipeline()
        if self._stage_id is None:  # said by an earlier process
            query = f"tags.`{STAGE_TAG}` = \"{record['stage']}\" AND tags.mlflow.parentRunId = '{self._pipeline()}'"
            found = self._find(self._experiment_id, query)
            if not found:
                raise LookupError(f"no run of stage {record['stage']}")
            self._stage_id = found[0].info.run_id
        return self._stage_id

    def _pipeline(self) -> str:
        if self.run_id is None:  # said by an earlier process
            earlier = [one for one in self._spool.records if one["kind"] == "pipeline"]
            self._say_pipeline(earlier[-1])
        assert self.run_id is not None
        return self.run_id

    def _find(self, experiment_id: str, query: str) -> list[Run]:
        return list(self._client.search_runs([experiment_id], query))


def ensure_experiment(client: mlflow.MlflowClient, name: str) -> str:
    """Return an experiment's identifier; where there is none of this name it is made, and several may try at once.

    A new one's files lie beside a SQLite database, in `mlartifacts`; elsewhere the server says where.
    """
    artifacts, uri = None, client.tracking_uri
    if uri.startswith("sqlite:///"):
        artifacts = (Path(uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client.create_experiment(name, artifacts))
    except MlflowException:  # another process was first
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


def is_away(error: Exception) -> bool:
    """Tell whether an error means that the server does not answer, or not now, rather than that it refuses."""
    if isinstance(error, requests.HTTPError) and error.response is not None:  # of a file, through the server
        return error.response.status_code in NOT_NOW or error.response.status_code >= 500
    if isinstance(error, requests.RequestException | ConnectionError | TimeoutError):
        return True
    if not isinstance(error, MlflowException):
        return False
    status = error.get_http_status_code()
    text = str(error)
    return status in NOT_NOW or (status >= 500 and ("API request to" in text or "failed with" in text))
