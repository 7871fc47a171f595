"""Gates and promotion on small files: each bad candidate is refused by the gate that should."""

import os
import shutil
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import yaml
from onnx import helper, numpy_helper

from serving.errors import InputError
from serving.frames import encode_png
from tests.training.promotion.conftest import SIZE, describe
from training.cli import main
from training.configuration import load_settings
from training.export.export import describe_classes
from training.promotion.commands import REFUSED
from training.promotion.promotion import Promotion, Refused
from training.taxonomy import CAMVID

COLOURS = [(200, 0, 0), (0, 200, 0), (0, 0, 200)]


@pytest.fixture
def run_id(database):
    return mlflow.MlflowClient(database).create_run("0").info.run_id


@pytest.fixture
def settings(tmp_path, database):
    """A folder of frames in CamVid's classes, of which the tiny model knows three: Sky, Building, Pole."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (tmp_path / "data" / "train" / kind).mkdir(parents=True)
    for number in range(6):
        mask = rng.integers(0, 3, SIZE).astype(np.uint8)
        frame = np.array(COLOURS, np.uint8)[mask] + rng.integers(0, 50, (*SIZE, 3), np.uint8)
        (tmp_path / "data" / "train" / "images" / f"{number}.png").write_bytes(encode_png(frame))
        (tmp_path / "data" / "train" / "labels" / f"{number}.png").write_bytes(encode_png(mask))
    pixels = {name: {"image": "0", "x": 1, "y": number} for number, name in enumerate(CAMVID.names)}
    (tmp_path / "pixels.yaml").write_text(yaml.safe_dump({"dataset": "folder", "pixels": pixels}))
    config = {
        "name": "tiny",
        "pixels": str(tmp_path / "pixels.yaml"),
        "dataset": {"name": "folder", "root": str(tmp_path / "data"), "taxonomy": "camvid"},
        "cam": {"network": "mobilenet_v2", "weights": "embedded"},
        "promotion": {"most_latency_ratio": 4},
        "tracking": {"uri": database},
    }
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return load_settings(str(path))


@pytest.fixture
def good(run_id):
    """Metadata of a file that a run made, in the data set's classes."""
    return lambda model: describe(model, mlflow_run_id=run_id, classes=describe_classes(CAMVID))


@pytest.fixture
def champion(promotion, tiny_file, frame, good):
    promotion.registry.register(tiny_file(0, good), golden_frame=frame)
    promotion.promote("1", why="the first", without_gates=True)


def judge(promotion, settings, path, frame):
    version = promotion.registry.register(path, golden_frame=frame).version
    report = promotion.gate(version, settings)
    return version, report, [gate.name for gate in report.gates if gate.passed is False]


def stored(promotion, version):
    """Where the registry keeps a version's folder."""
    source = promotion.registry.client.get_model_version_download_uri(promotion.registry.name, version)
    return Path(mlflow.artifacts.download_artifacts(source))


def test_an_equal_candidate_passes_and_is_promoted(promotion, settings, tiny_file, frame, good, champion):
    version, report, failed = judge(promotion, settings, tiny_file(1, good), frame)
    assert failed == [] and report.passed and report.truth_seen and report.against == "1"
    assert [gate.name for gate in report.gates] == [
        *("loads", "finite", "classes", "golden", "provenance", "size", "parity", "miou", "class_iou", "latency")
    ]
    assert "no class is worse" in next(gate.message for gate in report.gates if gate.name == "class_iou")
    tags = promotion.registry.version(version).tags
    assert tags["onepixel.gates"] == "passed" and '"figure": 0.0' in tags["onepixel.gate.miou"]
    entry = promotion.promote(version, why="as good")
    assert (entry.version, entry.previous) == ("2", "1")
    assert promotion.promote(version, why="again") == entry  # it is champion already
    assert promotion.rollback(why="to see").version == "1"
    history = promotion.history()
    assert history["champion"] == "1" and [entry["action"] for entry in history["entries"]] == [
        *("promote", "promote", "rollback")
    ]


def shuffled(model):
    table = np.array([1, 2, 0], np.uint8)
    for node in model.graph.node:
        node.output[:] = ["plain" if name == "class_ids" else name for name in node.output]
    model.graph.initializer.append(numpy_helper.from_array(table, "table"))
    model.graph.node.append(helper.make_node("Cast", ["plain"], ["index"], to=onnx.TensorProto.INT64))
    model.graph.node.append(helper.make_node("Gather", ["table", "index"], ["class_ids"]))


def unbounded(model):
    model.graph.initializer.append(numpy_helper.from_array(np.array([np.nan, 1], np.float32), "unused"))


def renamed(model):
    first, second, *others = describe_classes(CAMVID)
    describe(model, classes=(second.model_copy(update={"id": 0}), first.model_copy(update={"id": 1}), *others))


def slow(model):
    weights = np.zeros((48, 3, 9, 9), np.float32)
    for number in range(24):
        model.graph.initializer.append(numpy_helper.from_array(weights + number, f"w{number}"))
    model.graph.node.append(helper.make_node("Cast", ["frames"], ["f"], to=onnx.TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Transpose", ["f"], ["c"], perm=[0, 3, 1, 2]))
    for node in model.graph.node:
        node.output[:] = ["early" if name == "confidence" else name for name in node.output]
    sums = []
    for number in range(24):
        model.graph.node.append(helper.make_node("Conv", ["c", f"w{number}"], [f"y{number}"], pads=[4, 4, 4, 4]))
        model.graph.node.append(helper.make_node("ReduceMax", [f"y{number}"], [f"m{number}"], keepdims=0))
        sums.append(f"m{number}")
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((), np.float32), "none"))
    model.graph.node.append(helper.make_node("Sum", sums, ["all"]))
    model.graph.node.append(helper.make_node("Mul", ["all", "none"], ["nothing"]))
    model.graph.node.append(helper.make_node("Cast", ["nothing"], ["zero8"], to=onnx.TensorProto.UINT8))
    model.graph.node.append(helper.make_node("Add", ["early", "zero8"], ["confidence"]))


@pytest.mark.parametrize(
    ("spoil", "first"), [(shuffled, "miou"), (unbounded, "finite"), (renamed, "classes"), (slow, "latency")]
)
def test_a_bad_candidate_is_refused_by_its_gate(promotion, settings, tiny_file, frame, good, champion, spoil, first):
    def change(model):
        good(model)
        spoil(model)

    version, report, failed = judge(promotion, settings, tiny_file(1, change), frame)
    assert failed[0] == first and not report.passed
    if spoil is slow:
        assert failed == ["latency"]
    with pytest.raises(Refused, match=f"version {version}: a gate refused it"):
        promotion.promote(version, why="must not")
    assert promotion.registry.alias("champion") == "1"


def test_a_file_that_was_cut_off_in_the_store_is_refused(promotion, settings, tiny_file, frame, good, champion):
    version = promotion.registry.register(tiny_file(1, good), golden_frame=frame).version
    path = stored(promotion, version) / "model.onnx"
    path.write_bytes(path.read_bytes()[:100])
    report = promotion.gate(version, settings)
    assert [(gate.name, gate.passed) for gate in report.gates] == [("loads", False)]
    assert "100 bytes" in report.gates[0].message


def test_gates_that_were_asked_against_another_champion_do_not_count(
    promotion, settings, tiny_file, frame, good, champion
):
    versions = [judge(promotion, settings, tiny_file(number, good), frame)[0] for number in (1, 2)]
    promotion.promote(versions[0], why="first of the two")
    with pytest.raises(Refused, match="its gates were asked against version 1, the champion is 2"):
        promotion.promote(versions[1], why="second")
    assert promotion.gate(versions[1], settings).against == "2"
    promotion.promote(versions[1], why="after its gates were asked again")


def test_a_file_of_an_unknown_run_is_refused_by_its_provenance(promotion, settings, tiny_file, frame, champion):
    path = tiny_file(1, lambda model: describe(model, mlflow_run_id="unheard-of", classes=describe_classes(CAMVID)))
    _, _, failed = judge(promotion, settings, path, frame)
    assert failed == ["provenance"]


def test_a_version_that_lost_its_golden_frame_is_refused_by_that_gate(
    promotion, settings, tiny_file, frame, good, champion
):
    version = promotion.registry.register(tiny_file(1, good), golden_frame=frame).version
    shutil.rmtree(stored(promotion, version) / "golden")
    failed = [(gate.name, gate.message) for gate in promotion.gate(version, settings).gates if gate.passed is False]
    assert failed == [("golden", f"{promotion.registry.name} version {version}: holds no golden frame and mask")]


def test_frames_of_other_classes_or_of_the_evaluation_split_judge_nobody(
    promotion, settings, tiny_file, frame, good, champion
):
    version = promotion.registry.register(tiny_file(1, good), golden_frame=frame).version
    for changes, message in (
        ({"taxonomy": "cityscapes"}, "answers Sky, Building, .*: give the configuration of its data set"),
        ({"evaluation": "train"}, "'train' is the evaluation split"),
    ):
        other = settings.model_copy(update={"dataset": settings.dataset.model_copy(update=changes)})
        with pytest.raises(InputError, match=message):
            promotion.gate(version, other)
    assert promotion.registry.version(version).tags["onepixel.gates"] == "none"


def test_what_gates_said_earlier_does_not_outlive_the_next_time(promotion, settings, tiny_file, frame, good, champion):
    version, report, _ = judge(promotion, settings, tiny_file(1, good), frame)
    assert report.passed
    path = stored(promotion, version) / "model.onnx"
    path.write_bytes(path.read_bytes()[:100])
    assert not promotion.gate(version, settings).passed
    tags = promotion.registry.version(version).tags
    assert [tag for tag in tags if tag.startswith("onepixel.gate.")] == ["onepixel.gate.loads"]
    assert tags["onepixel.gates"] == "failed"


def test_classes_may_be_too_rare_but_not_all_frames_unlabelled(promotion, settings, tiny_file, frame, good, champion):
    version = promotion.registry.register(tiny_file(1, good), golden_frame=frame).version
    limits = settings.promotion.model_copy(update={"least_class_share": 1.0})
    report = promotion.gate(version, settings.model_copy(update={"promotion": limits}))
    assert [gate.passed for gate in report.gates if gate.name == "class_iou"] == [None] and report.passed
    for path in (Path(settings.dataset.root) / "train" / "labels").iterdir():
        path.write_bytes(encode_png(np.full(SIZE, 255, np.uint8)))
    with pytest.raises(InputError, match="labels of the 6 gate frames of 'train' are all ignored"):
        promotion.gate(version, settings)


def test_new_frames_without_labels_are_no_gate_frames(promotion, settings, tiny_file, frame, good, champion, tmp_path):
    (tmp_path / "new").mkdir()
    for number in range(6):
        (tmp_path / "new" / f"{number}.png").write_bytes(encode_png(np.full_like(frame, number)))
    extended = settings.model_copy(update={"dataset": settings.dataset.model_copy(update={"extra": tmp_path / "new"})})
    _, report, _ = judge(promotion, extended, tiny_file(1, good), frame)
    (said,) = (gate.message for gate in report.gates if gate.name == "miou")
    assert "on 6 frames of 'train'" in said


def test_without_labels_agreement_decides_and_the_report_says_so(promotion, settings, tiny_file, frame, good, champion):
    shutil.rmtree(Path(settings.dataset.root) / "train" / "labels")
    _, report, failed = judge(promotion, settings, tiny_file(1, good), frame)
    names = [gate.name for gate in report.gates]
    assert names[7:10] == ["annotated_pixels", "agreement", "coverage"] and failed == [] and not report.truth_seen
    assert "no truth was seen" in report.as_lines()[-1]

    def change(model):
        good(model)
        shuffled(model)

    _, _, failed = judge(promotion, settings, tiny_file(2, change), frame)
    assert "agreement" in failed


def test_commands_say_what_stands_in_the_way(promotion, settings, tiny_file, frame, champion, database, capsys):
    promotion.registry.register(tiny_file(1), golden_frame=frame)
    name = promotion.registry.name
    with pytest.raises(SystemExit) as ended:
        main(["promote", name, "2", "--why", "no gate", "--uri", database])
    assert ended.value.code == REFUSED
    assert "refused: version 2: no gate has been asked" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["history", name, "--uri", database, "--json"])
    assert ended.value.code == 0 and '"champion": "1"' in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["promote", name, "1", "--why", "again", "--uri", database])
    assert ended.value.code == 0
    assert f"version 1 of {name} is champion already: nothing is changed" in capsys.readouterr().out


def test_a_name_under_which_nothing_is_registered_has_no_history(promotion):
    with pytest.raises(InputError, match="nothing is registered under this name"):
        promotion.history()


def test_register_warns_of_a_file_whose_run_nobody_knows(promotion, tiny_file, database, good, capsys):
    def register(path):
        with pytest.raises(SystemExit) as ended:
            main(["register", str(path), "--name", promotion.registry.name, "--uri", database])
        assert ended.value.code == 0
        return capsys.readouterr().err

    assert "knows no run of this file" in register(tiny_file(0))
    assert "knows no run" not in register(tiny_file(1, good))


def test_there_is_nothing_to_go_back_to_before_the_second_champion(promotion, tiny_file, frame):
    with pytest.raises(InputError, match="there is no champion"):
        promotion.rollback(why="nothing")
    promotion.registry.register(tiny_file(), golden_frame=frame)
    promotion.promote("1", why="the first", without_gates=True)
    with pytest.raises(InputError, match="version 1 is the first champion"):
        promotion.rollback(why="nothing")
    with pytest.raises(InputError, match="--to 9: was never champion"):
        promotion.rollback(why="nothing", to="9")


def test_versions_that_somebody_has_deleted_are_in_nobodys_way(promotion, tiny_file, frame):
    for number in range(3):
        promotion.registry.register(tiny_file(number), golden_frame=frame)
        promotion.promote(str(number + 1), why=str(number), without_gates=True)
    registry = promotion.registry
    registry.client.delete_model_version(registry.name, "2")  # the one before
    again = Promotion(registry.uri, registry.name)
    assert registry.alias("champion") == "3" and registry.alias("previous") is None
    with pytest.raises(InputError, match="has no version 2"):
        again.rollback(why="to one that is gone")
    assert len(again.history()["entries"]) == 3  # nothing was written
    registry.client.delete_model_version(registry.name, "3")  # the champion itself
    assert Promotion(registry.uri, registry.name).rollback(why="what is left", to="1").version == "1"
    assert registry.alias("champion") == "1"


def test_a_user_without_a_name_is_told_by_number(promotion, tiny_file, frame, monkeypatch):
    def nameless(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr("pwd.getpwuid", nameless)  # as in a container that runs as any number
    for variable in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(variable, raising=False)
    promotion.registry.register(tiny_file(), golden_frame=frame)
    assert promotion.promote("1", why="the first", without_gates=True).by == f"uid {os.getuid()}"


def test_a_registry_that_does_not_answer_is_bad_input_and_no_traceback(capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for command in (["history", "n"], ["promote", "n", "1", "--why", "x"], ["rollback", "n", "--why", "x"]):
        with pytest.raises(SystemExit) as ended:
            main([*command, "--uri", "http://127.0.0.1:9"])
        assert ended.value.code == 2
        assert "error: registry http://127.0.0.1:9: " in capsys.readouterr().err
