"""What MLflow is told, on a database of its own."""

import mlflow

from training.tracking import Tracker


def test_a_stage_that_is_opened_again_replaces_its_run_whatever_its_name(tmp_path):
    tracker = Tracker(f"sqlite:///{tmp_path / 'mlflow.db'}", "test")
    with tracker.pipeline("run", "key") as parent:
        for _ in range(2):
            with tracker.stage("Felzenszwalb's regions"):
                pass
    nested: list = mlflow.search_runs(
        filter_string=f"tags.mlflow.parentRunId = '{parent}'", output_format="list", search_all_experiments=True
    )
    assert [run.info.run_name for run in nested] == ["Felzenszwalb's regions"]
