from training.run_folder import link_files


def test_files_are_linked_whatever_their_kind_and_those_that_are_there_stay(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    (source / "deep").mkdir(parents=True)
    target.mkdir()
    for name in ("frame.npz", "basis.safetensors", "deep/mask.png"):
        (source / name).write_text(name)
    (target / "frame.npz").write_text("mine")
    link_files(source, target)
    assert (target / "frame.npz").read_text() == "mine"
    for name in ("basis.safetensors", "deep/mask.png"):
        assert (target / name).samefile(source / name)
