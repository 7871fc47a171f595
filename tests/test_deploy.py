"""What is deployed fits what is here: names of metrics, targets, files and settings."""

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry

from serving.batching import InferenceQueue
from serving.collect import Collector
from serving.metrics import Metrics
from serving.model import Model
from serving.settings import CollectSettings, QueueSettings
from serving.triton import config_text
from training.tracking_server import with_password

COMPOSE = yaml.safe_load(Path("compose.yaml").read_text())
DOCKERFILE = Path("Dockerfile").read_text()
CRONJOB = yaml.safe_load(Path("deploy/kubernetes/retrain-cronjob.yaml").read_text())


def metric_names(folder):
    """All names that a server with a shadow and a collector exposes."""
    queue = InferenceQueue(capacity=1, settings=QueueSettings(), interval=0.01)
    metrics = Metrics(queue, list)
    Collector(CollectSettings(folder=folder), metrics.registry)
    queue.close()
    families = [*metrics.registry.collect(), *_shadow_families()]
    return {sample.name for family in families for sample in family.samples} | {
        f"{family.name}{end}" for family in families for end in ("", "_total", "_bucket", "_sum", "_count")
    }


def _shadow_families():
    from serving.registry import RegistryClient
    from serving.settings import ShadowSettings
    from serving.shadow import Shadow

    registry = CollectorRegistry()
    Shadow(ShadowSettings(model="models:/a@b"), RegistryClient("http://127.0.0.1:9"), Path("unused"), registry, 1)
    return list(registry.collect())


def test_dashboard_and_alerts_ask_for_metrics_that_there_are(tmp_path):
    panels = json.loads(Path("deploy/grafana/dashboards/serving.json").read_text())["panels"]
    rules = yaml.safe_load(Path("deploy/prometheus/rules.yml").read_text())["groups"][0]["rules"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]] + [rule["expr"] for rule in rules]
    asked = {name for query in queries for name in re.findall(r"\b(?:onepixel|process)_[a-z_]+", query)}
    assert asked - metric_names(tmp_path) - {"process_resident_memory_bytes"} == set() and len(asked) > 10


def test_compose_builds_targets_and_mounts_files_that_there_are():
    targets = set(re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE))
    services = COMPOSE["services"]
    assert {"serving", "training", "torchserve"} <= targets
    assert {service["build"]["target"] for service in services.values() if "build" in service} <= targets
    for service in services.values():
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            assert Path(source).exists() if source.startswith(".") else source in COMPOSE["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_the_images_have_the_folders_of_their_volumes_as_their_users_own():
    for name, service in COMPOSE["services"].items():
        if "build" not in service:
            continue
        body = DOCKERFILE.split(f" AS {service['build']['target']}\n")[1].split("\nFROM ")[0]
        (owned,) = re.findall(r"^RUN install -d -o 10001 -g 10001 (.+)$", body, re.MULTILINE)
        assert {mount.split(":")[1] for mount in service["volumes"]} <= set(owned.split()), name


def test_the_serving_image_has_no_torch_and_every_target_is_nobodys_root():
    names = re.findall(r"^([a-z0-9-]+)==", Path("deploy/serving.lock").read_text(), re.MULTILINE)
    assert {"grpcio", "onnxruntime", "mlflow-skinny"} <= set(names)
    assert not {"torch", "mlflow", "onnxruntime-gpu", "scikit-image"} & set(names)
    gpu = re.findall(r"^([a-z0-9-]+)==", Path("deploy/serving-gpu.lock").read_text(), re.MULTILINE)
    assert {"onnxruntime-gpu", "nvidia-cuda-runtime", "nvidia-cudnn-cu13"} <= set(gpu) and "torch" not in gpu
    for stage in ("serving", "training", "torchserve"):
        body = DOCKERFILE.split(f" AS {stage}\n")[1].split("\nFROM ")[0]
        assert "USER 10001:10001" in body and "ENTRYPOINT [" in body
    locks = [Path(name).read_text() for name in ("deploy/serving.lock", "serving/torchserve/requirements.lock")]
    assert not any(re.search(r"^--(extra-)?index-url|https?://", lock, re.MULTILINE) for lock in locks)


def test_the_commands_of_the_images_are_commands():
    from serving.__main__ import main

    serve = main.commands["serve"]
    for line in (
        COMPOSE["services"]["serving"]["command"],
        json.loads(re.findall(r'^CMD (\["serve".*\])$', DOCKERFILE, re.M)[0]),
    ):
        assert serve.make_context("serve", [str(word) for word in line[1:]]).params["address"] == "0.0.0.0:50051"
    assert "health" in main.commands and "torchserve" in main.commands


@pytest.mark.parametrize("model", sorted(Path("model_store").glob("*/*/model.onnx")))
def test_the_store_holds_what_triton_needs(model):
    name = model.parts[1]
    assert (model.parents[1] / "config.pbtxt").read_text() == config_text(name, Model.load(model).metadata)


def test_the_nightly_jobs_tell_a_refusal_from_a_failure():
    job = CRONJOB["spec"]["jobTemplate"]["spec"]
    assert CRONJOB["spec"]["concurrencyPolicy"] == "Forbid"
    assert job["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"] == [3]
    container = job["template"]["spec"]["containers"][0]
    from training.cli import main

    context = main.commands["retrain"].make_context("retrain", list(container["args"][1:]))
    assert context.params["out"] == Path("/work/retrain")


@pytest.mark.parametrize(("status", "said"), [(0, "promoted"), (3, "refused by a gate"), (1, "failed with status 1")])
def test_the_script_for_cron_hands_on_the_status_and_keeps_the_last_whole_report(tmp_path, status, said):
    onepixel = tmp_path / "onepixel"
    onepixel.write_text(f'#!/bin/sh\necho \'{{"arguments": "\'"$*"\'"}}\'\nexit {status}\n')
    onepixel.chmod(0o755)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "last.json").write_text('{"arguments": "yesterday"}')
    environment = {"ONEPIXEL": onepixel, "CONFIG": "camvid", "FRAMES": tmp_path / "frames", "PATH": "/usr/bin:/bin"}
    environment |= {"MLFLOW_TRACKING_URI": "http://x", "OUT": tmp_path / "out", "LOGS": tmp_path / "logs"}
    done = subprocess.run(["deploy/cron/retrain.sh"], env=environment, capture_output=True, text=True)
    assert done.returncode == status
    log = "".join(path.read_text() for path in (tmp_path / "logs").glob("*.log"))
    assert said in log + done.stderr
    assert len(list((tmp_path / "logs").iterdir())) == 2
    arguments = json.loads((tmp_path / "logs" / "last.json").read_text())["arguments"]
    assert arguments.startswith(
        "yesterday" if status == 1 else f"retrain camvid --frames {tmp_path / 'frames'} --out {tmp_path / 'out'}"
    )


def test_a_password_is_quoted_into_the_databases_address():
    uri = with_password("postgresql+psycopg2://mlflow@postgres:5432/mlflow", "a/b@c")
    assert uri == "postgresql+psycopg2://mlflow:a%2Fb%40c@postgres:5432/mlflow"
