from pathlib import Path

import pytest
import yaml

from serving.errors import InputError
from training.configuration import load_settings, read_settings, shipped_configurations


@pytest.mark.parametrize("name", ["streets", "camvid", "cityscapes"])
def test_shipped_configurations_are_valid(name):
    settings = load_settings(name, ["dataset.root=/data", "cam.network=mobilenet_v2", "cam.weights=IMAGENET1K_V1"])
    assert settings.name == name
    assert str(settings.dataset.root) == "/data"
    assert settings.cam.weights == "IMAGENET1K_V1"
    assert name in shipped_configurations()


def test_overrides_are_yaml_and_reach_into_sections():
    settings = load_settings(
        "streets", ["training.crop=[97, 129]", "dataset.limit=null", "training.learning_rate=0.01"]
    )
    assert settings.training.crop == (97, 129)
    assert settings.dataset.limit is None
    assert settings.training.learning_rate == 0.01


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.update=3", r"unknown key 'training\.update'; did you mean 'training\.updates'"),
        ("training.updates=0", r"training\.updates: .*greater than or equal to 1, got 0"),
        ("cam.slice_height=200", "slice_height must be 32 k \\+ 1"),
        ("training.updates", "must be key=value"),
        ("seed.more=1", "'seed' is a value, not a section"),
        ("seed=-1", r"seed: .*greater than or equal to 0, got -1"),
        (f"seed={1 << 63}", r"seed: .*less than 9223372036854775808"),
        ("dataset.seed=-1", r"dataset\.seed: .*greater than or equal to 0, got -1"),
        ("network.aspp_rates=[]", r"network\.aspp_rates: .*at least 1 item"),
        ("network.aspp_rates=[6, 0]", r"network\.aspp_rates\.1: .*greater than or equal to 1, got 0"),
        ("network.name=vgg16", r"network\.name: .*'deeplab_vgg16_aspp'.*got 'vgg16'"),
        ("network.name=deeplab_vgg16_largefov", r"network: .*has one rate, got aspp_rates \[2, 4, 6\]; .*=\[12\]"),
        ("network.output_stride=32", r"network\.output_stride: .*8 or 16, got 32"),
        ("training.scales=[1.5, 0.75]", r"training: scales must go from low to high.*give \[0\.75, 1\.5\]"),
        ("name=../../escape", r"name: .*match pattern.*got '\.\./\.\./escape'"),
        ("name=.hidden", r"name: .*match pattern"),
        ('name="two\\n"', r"name: .*match pattern"),
        ("cam.network=resnet18", "cam: network must be mobilenet_v2 with the weights 'embedded'.*got 'resnet18'"),
        ("saliency.method=drif", r"saliency\.method: .*'drfi', got 'drif'"),
        ("saliency.forest=mine.pkl", r"saliency: forest must be 'embedded' or the path of an \.onnx file, got 'mine"),
        ("name=2001-99-99", "the value is not YAML"),
        ("pixels=~nobody-of-this-name/a.yaml", r"pixels: .*'~nobody-of-this-name/a\.yaml'"),
        ("dataset.name=kitti", r"dataset\.name: .*'camvid'.*got 'kitti'"),
    ],
)
def test_a_wrong_override_names_key_and_value(override, message):
    with pytest.raises(InputError, match=message):
        load_settings("streets", ["seed=1", override])


def test_a_data_set_on_disk_needs_its_folder():
    with pytest.raises(InputError, match=r"'camvid' needs a folder: --set dataset\.root=DIR"):
        load_settings("camvid", ["dataset.root=null"])


def test_unknown_and_unreadable_configurations(tmp_path):
    with pytest.raises(InputError, match=r"unknown configuration 'kitti'.*camvid, cityscapes, streets"):
        load_settings("kitti")
    with pytest.raises(InputError, match=r"absent\.yaml cannot be read"):
        load_settings(str(tmp_path / "absent.yaml"))
    broken = tmp_path / "broken.yaml"
    broken.write_text("a: [")
    with pytest.raises(InputError, match=r"broken\.yaml is not YAML"):
        load_settings(str(broken))


@pytest.mark.parametrize("read", [lambda path: load_settings(str(path)), read_settings])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name: caf\xe9", r"settings\.yaml is not UTF-8: .* at byte 9"),
        (b"a: [", r"settings\.yaml is not YAML: line 1, column 5: expected the node content"),
        (b"name: a\nname: b", r"settings\.yaml is not YAML: line 2, column 1: 'name' stands twice"),
        (b"name: 2001-99-99", r"settings\.yaml is not YAML: month"),
        (b"- a", r"settings\.yaml must hold keys and values, got \['a'\]"),
        (b"", r"settings\.yaml: name: Field required"),
    ],
)
def test_what_is_no_configuration_is_told_with_its_file(tmp_path, read, content, message):
    path = tmp_path / "settings.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        read(path)


def test_relative_paths_are_made_absolute_after_overrides(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    Path("mine.yaml").write_text("{name: mine, pixels: sub/../a.yaml, dataset: {name: camvid, root: given}}")
    overrides = ["dataset.root=../data", "cam.weights=~/weights.safetensors", "saliency.forest=forest.onnx"]
    overrides += ["network.weights=vgg16.safetensors"]
    settings = load_settings("mine.yaml", overrides)
    assert settings.pixels == str(tmp_path / "a.yaml")
    assert settings.dataset.root == tmp_path.parent / "data"
    assert settings.cam.weights == str(tmp_path / "home" / "weights.safetensors")
    assert settings.saliency.forest == str(tmp_path / "forest.onnx")
    assert settings.network.weights == str(tmp_path / "vgg16.safetensors")
    written = tmp_path / "settings.yaml"
    written.write_text(yaml.safe_dump(settings.model_dump(mode="json")))
    monkeypatch.chdir("/")
    assert read_settings(written) == settings


def test_names_are_no_paths():
    settings = load_settings("streets", ["pixels=streets", "cam.weights=IMAGENET1K_V1"])
    assert (settings.pixels, settings.cam.weights, settings.dataset.root) == ("streets", "IMAGENET1K_V1", None)
    assert settings.saliency.forest == "embedded"


def test_generated_frames_have_a_seed_of_their_own():
    settings = load_settings("streets", ["seed=7"])
    assert (settings.seed, settings.dataset.seed) == (7, 0)
