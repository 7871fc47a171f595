"""What is taken from a run's folder, and what is not."""

import pytest

from serving.errors import InputError
from tests.training.inspection.frames import PIXELS
from training.annotations.pixels import Pixel
from training.configuration import load_settings
from training.features.extraction import BASIS
from training.inspection.cached import link_features, solved_graph
from training.run_folder import write_json, write_yaml

LIMIT = "dataset.limit=2"


def make_run(folder, settings):
    """A run of one frame, whose files are empty."""
    write_yaml(folder / "settings.yaml", settings.model_dump(mode="json"))
    write_yaml(folder / "pixels.yaml", PIXELS.model_dump())
    write_json(folder / "state.json", {})
    graph = folder / "round_0" / "pseudo_labels" / "graph.npz"
    for file in (folder / "features" / "frame.npz", folder / "features" / BASIS, graph):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return folder


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "run", load_settings("streets", [LIMIT]))


def linked(folder, run, *overrides):
    folder.mkdir()
    link_features(load_settings("streets", [LIMIT, *overrides]), ["frame", "other"], run, folder)
    assert all(path.resolve() == (run / "features" / path.name).resolve() for path in folder.iterdir())
    return sorted(path.name for path in folder.iterdir())


def test_features_are_taken_with_their_basis_or_not_at_all(run, tmp_path):
    assert linked(tmp_path / "first", run) == [BASIS, "frame.npz"]
    (run / "features" / BASIS).unlink()
    assert linked(tmp_path / "second", run) == []
    assert solved_graph(load_settings("streets", [LIMIT]), PIXELS, run) is None


def test_similarity_has_no_basis(tmp_path):
    preset = "pseudo_labels.preset=paper"
    run = make_run(tmp_path / "run", load_settings("streets", [preset]))
    assert linked(tmp_path / "linked", run, preset) == ["frame.npz"]


@pytest.mark.parametrize(
    "free", ["dataset.limit=1", "propagation.neighbours=3", "pseudo_labels.edge_scale=1", "seed=4"]
)
def test_settings_on_which_features_do_not_depend_are_free(run, tmp_path, free):
    assert linked(tmp_path / "linked", run, free)


def test_those_of_the_other_method_are_free(run, tmp_path):
    assert linked(tmp_path / "linked", run, "cam.slice_height=65")
    with pytest.raises(InputError, match=r"embedding\.dimensions=112 \(not 8\)"):
        linked(tmp_path / "other", run, "embedding.dimensions=8")
    paper = "pseudo_labels.preset=paper"
    of_paper = make_run(tmp_path / "paper", load_settings("streets", [paper]))
    assert linked(tmp_path / "again", of_paper, paper, "embedding.dimensions=8")
    with pytest.raises(InputError, match=r"cam\.slice_height=161 \(not 65\)"):
        linked(tmp_path / "once more", of_paper, paper, "cam.slice_height=65")


def test_what_is_other_is_named_with_what_would_be_right(run, tmp_path):
    mistake = (
        r"superpixels\.method=felzenszwalb \(not slic\), pseudo_labels\.method=propagation \(not similarity\); give "
        r"--set superpixels\.method=felzenszwalb --set pseudo_labels\.method=propagation, or leave --run out"
    )
    with pytest.raises(InputError, match=mistake):
        linked(tmp_path / "linked", run, "pseudo_labels.preset=paper")
    with pytest.raises(InputError, match=r"give --set 'dataset\.size=\[192, 384\]', or"):
        linked(tmp_path / "other", run, "dataset.size=[64, 64]")
    with pytest.raises(InputError, match="holds no run"):
        linked(tmp_path / "no run", tmp_path)


def test_a_graph_is_taken_where_it_is_of_the_same_frames_pixels_and_settings(run):
    def graph(*overrides, pixels=PIXELS):
        return solved_graph(load_settings("streets", [LIMIT, *overrides]), pixels, run)

    solved = run / "round_0" / "pseudo_labels" / "graph.npz"
    # An object's margin is taken from the scores when they are read.
    assert graph() == graph("pseudo_labels.location=false") == solved
    assert graph("propagation.neighbours=3") is None
    assert graph("dataset.limit=3") is None
    moved = {**PIXELS.pixels, "road": Pixel(image="frame", x=1, y=1)}
    assert graph(pixels=PIXELS.model_copy(update={"pixels": moved})) is None
    solved.unlink()
    assert graph() is None
