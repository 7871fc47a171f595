import pytest

from serving.errors import InputError
from training.settings import load_settings, shipped_configurations


@pytest.mark.parametrize("name", ["streets", "camvid", "cityscapes"])
def test_shipped_configurations_are_valid(name):
    settings = load_settings(name, ["dataset.root=/data", "cam.weights=weights.safetensors"])
    assert settings.name == name
    assert str(settings.dataset.root) == "/data"
    assert settings.cam.weights == "weights.safetensors"
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
