"""Close the loop with real parts: `python -m training.loop`, which `make loop` runs, ends with one JSON object.

A model is trained on a small first part of the frames and served, while cameras stream to it all along. The server
keeps the frames that it is unsure of; the retraining learns from them without labels, and its model is gated, promoted,
and followed by the server. Then four broken candidates are refused, and a rollback brings back the first model.
"""

import hashlib
import json
import secrets
import shutil
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from mlflow import MlflowClient

from training.loop import frames, processes
from training.loop.bad_candidates import TRUNCATED, cut_off, write_bad_candidates
from training.loop.cameras import Cameras
from training.loop.frames import Scene
from training.loop.processes import onepixel

POLLING = 5.0
"""Seconds between two looks of the server at the alias; MLflow's webhook tells it earlier."""
MINUTES = 60.0
REFUSED = 3
"""Exit status of a command whose candidate a gate has refused."""


@click.command()
@click.option("--root", type=click.Path(path_type=Path), help="CamVid; generated streets where there is none.")
@click.option("--weights", type=click.Path(path_type=Path), help="ImageNet weights of MobileNetV2, for CamVid.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default="runs/loop", show_default=True)
def main(root: Path | None, weights: Path | None, out: Path) -> None:
    """Train, serve, collect, retrain, gate, promote, swap, refuse, roll back; print one JSON object."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    with ExitStack() as stack:
        uri = stack.enter_context(processes.mlflow_server(out / "mlflow", out / "mlflow.log"))
        if root is not None and weights is not None and root.is_dir() and weights.is_file():
            scene = frames.camvid(root, weights, out, uri)
        else:
            say("CamVid and its weights are not at hand: generated streets take their place")
            scene = frames.streets(out, uri)
        report = close_loop(scene, uri, out)
    click.echo(json.dumps(report))
    sys.exit(0 if report["frames_failed"] == 0 else 1)


def close_loop(scene: Scene, uri: str, out: Path) -> dict[str, Any]:
    """Run the loop on a scene; return the report."""
    log, name = out / "commands.log", scene.name
    say(f"train on the first part, {scene.config}")
    onepixel("train", scene.config, "--out", out / "first", log=log)
    first = register(out / "first", scene, uri, log)
    onepixel("gates", scene.config, "--candidate", first, log=log)
    onepixel("promote", name, first, "--why", "the first model", *at(uri), log=log)
    served = ["--model", f"models:/{name}@champion", "--shadow", f"models:/{name}@candidate"]
    served += ["--collect", str(out / "collected"), "--collect-policy", "uncertain"]
    served += ["--collect-limit", str(len(scene.frames) // 2), "--set", f"repository.poll_seconds={POLLING}"]
    secret = write_secret(out / "webhook.secret")
    served += ["--set", f"repository.hint_secret={out / 'webhook.secret'}"]
    with processes.serving(served, uri, out / "server.log") as addresses:
        address = addresses["address"]
        hook = f"http://{addresses['metrics_address']}/hooks/mlflow"
        MlflowClient(uri).create_webhook("follow", hook, ["model_version_alias.created"], secret=secret)
        cameras = Cameras(address, scene.frames)
        cameras.start()
        try:
            before = validation(scene, address, log)
            say(f"version {first} is served: validation mIoU {before:.3f}; the cameras show {len(scene.frames)} frames")
            cameras.wait_answered(len(scene.frames), 30 * MINUTES)
            say("retrain on the frames that the server has kept")
            _, retrained = onepixel(
                "retrain", scene.config, "--frames", out / "collected", "--out", out / "second", log=log
            )
            second = str(retrained["candidate"])
            cameras.wait_version(second, MINUTES)
            after = validation(scene, address, log)
            say(f"version {second} is served: validation mIoU {after:.3f}")
            refused = refusals(out / "second" / "run" / "model_store" / name / "1" / "model.onnx", scene, uri, out)
            say(f"refused: {refused}")
            _, rolled_back = onepixel("rollback", name, "--why", "to see it work", *at(uri), log=log)
            seconds = cameras.wait_version(first, MINUTES) - moved_at(name, uri, log)
            say(f"version {rolled_back['version']} is served again after {seconds:.1f} s")
        finally:
            cameras.stop()
    for failure in cameras.failures:
        say(f"failed: {failure}")
    return {
        "miou_before": before,
        "miou_after": after,
        "frames_sent": cameras.sent,
        "frames_failed": cameras.failed,
        "refused": refused,
        "promoted": second,
        "rollback_seconds": round(seconds, 2),
        "polling_interval_seconds": POLLING,
        "data_set": name,
    }


def refusals(good: Path, scene: Scene, uri: str, out: Path) -> dict[str, str]:
    """Register each bad candidate, and let the gates and `promote` refuse it; return the gate by candidate."""
    log = out / "commands.log"
    refused = {}
    for bad, path in write_bad_candidates(good, out / "bad").items():
        version = register(path, scene, uri, log)
        if bad == TRUNCATED:
            cut_off(out / "mlflow" / "artifacts", hashlib.sha256(path.read_bytes()).hexdigest())
        _, report = onepixel("gates", scene.config, "--candidate", version, log=log, expected=(REFUSED,))
        failed = [gate["name"] for gate in report["gates"] if gate["passed"] is False]
        onepixel("promote", scene.name, version, "--why", "it must not", *at(uri), log=log, expected=(REFUSED,))
        refused[bad] = failed[0]
    return refused


def write_secret(path: Path) -> str:
    """Make the secret that MLflow's webhook and the server share; nobody else may read the file."""
    secret = secrets.token_urlsafe(32)
    path.touch(mode=0o600, exist_ok=False)
    path.write_text(secret)
    return secret


def register(source: Path, scene: Scene, uri: str, log: Path) -> str:
    """Register a run's folder or a file as the candidate; return its version."""
    _, report = onepixel("register", source, "--name", scene.name, *at(uri), log=log)
    return str(report["version"])


def validation(scene: Scene, address: str, log: Path) -> float:
    """Return the class mIoU on the evaluation split of what is served."""
    _, report = onepixel("evaluate", "--server", address, "--dataset", scene.config, log=log)
    return float(report["miou_class"])


def moved_at(name: str, uri: str, log: Path) -> float:
    """Return when the champion last changed, as of `time.time`."""
    _, history = onepixel("history", name, *at(uri), log=log)
    return float(history["entries"][-1]["at"])


def at(uri: str) -> tuple[str, str]:
    """Return the option that says which registry."""
    return "--uri", uri


def say(text: str) -> None:
    """Tell a person how far it is."""
    click.echo(f"{time.strftime('%H:%M:%S')} {text}", err=True)


if __name__ == "__main__":
    main()
