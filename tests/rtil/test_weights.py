import hashlib
import pickle

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.torch import load_file

from rtil.cli import weights as command
from rtil.errors import UserError
from rtil.weights import backbones, fetch, load_lpips


@pytest.fixture
def empty_caches(tmp_path, monkeypatch):
    monkeypatch.setenv("RTIL_CACHE", str(tmp_path / "rtil"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "rtil").mkdir()
    (tmp_path / "torch/hub/checkpoints").mkdir(parents=True)
    return tmp_path


def pickled_tree(root="AlexNet_0", layers=5):
    rng = np.random.default_rng(0)
    tree = {f"Conv_{j}": {"kernel": rng.random((2, 3, 4, 5), np.float32), "bias": rng.random(5, np.float32)}
            for j in range(layers)}  # fmt: skip
    data = pickle.dumps({root: tree}, protocol=3).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    return tree, data, hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_distances_equal_the_lpips_package_with_imagenet_weights(shared, net):
    state = torch.get_rng_state()
    network = load_lpips(net)
    if network is None:
        pytest.skip("needs the LPIPS weights: rtil weights lpips")
    assert torch.equal(state, torch.get_rng_state())
    golden = load_file(shared / "golden/lpips.safetensors")
    for kind in ("noisy", "pixelated"):
        distance = network(golden["in.a"], golden[f"in.{kind}"]).flatten()
        torch.testing.assert_close(distance, golden[f"out.{net}.{kind}"], rtol=1e-5, atol=1e-6)


def test_without_files_there_is_no_network_and_no_download(empty_caches, monkeypatch):
    monkeypatch.setattr(fetch.subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("a download was started"))
    assert load_lpips("alex") is None


def test_unknown_network_is_named():
    with pytest.raises(UserError, match=r"unknown LPIPS network 'alexnet'.*alex, vgg.*did you mean 'alex'"):
        load_lpips("alexnet")


def test_damaged_cache_file_is_refused(empty_caches):
    path = empty_caches / "rtil/lpips-alexnet.safetensors"
    safetensors.torch.save_file({"features.0.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"is damaged \(wrong hash\): delete it"):
        load_lpips("alex")
    path.write_bytes(b"torn")
    with pytest.raises(UserError, match="is damaged"):
        load_lpips("alex")


def test_torchvision_file_is_read_only_with_the_right_hash(empty_caches, monkeypatch):
    network = {f"features.{i}.{p}": torch.full((1,), float(i)) for i in (0, 3, 6, 8, 10) for p in ("weight", "bias")}
    saved = empty_caches / "saved.pth"
    torch.save(network | {"classifier.1.weight": torch.zeros(4)}, saved)
    start = hashlib.sha256(saved.read_bytes()).hexdigest()[:8]
    folder = empty_caches / "torch/hub/checkpoints"
    for name, fits in ((f"alexnet-owt-{start}.pth", True), ("alexnet-owt-00000000.pth", False)):
        (folder / name).write_bytes(saved.read_bytes())
        alex = backbones.Backbone(**{**vars(backbones.BACKBONES["alex"]), "torchvision_file": name})
        monkeypatch.setattr(backbones, "BACKBONES", {"alex": alex})
        if fits:
            found = backbones.find_backbone("alex")
            assert found is not None
            assert found.keys() == network.keys()
        else:
            with pytest.raises(UserError, match="is damaged"):
                backbones.find_backbone("alex")


def test_numpy_pickle_becomes_torchvision_layout():
    tree, data, sha256 = pickled_tree()
    weights = fetch.torchvision_layout(fetch.read_numpy_pickle(data, sha256), backbones.BACKBONES["alex"])
    assert len(weights) == 10
    kernel = tree["Conv_1"]["kernel"]
    assert weights["features.3.weight"].shape == (5, 4, 2, 3)
    assert weights["features.3.weight"][4, 1, 0, 2].item() == kernel[0, 2, 1, 4]


def test_pickle_with_another_hash_is_not_read():
    _, data, _ = pickled_tree()
    with pytest.raises(UserError, match="sha256"):
        fetch.read_numpy_pickle(data, "0" * 64)


def test_pickle_that_names_anything_but_arrays_is_refused():
    data = pickle.dumps({"AlexNet_0": print})
    with pytest.raises(UserError, match=r"builtins\.print"):
        fetch.read_numpy_pickle(data, hashlib.sha256(data).hexdigest())


def test_command_fails_in_one_line_when_nothing_answers(empty_caches, monkeypatch, capsys):
    def refused(*args, **kwargs):
        raise OSError("no route to host")

    failed = fetch.subprocess.CompletedProcess([], 1, "", "WARNING: x\nERROR: No matching distribution found\n")
    monkeypatch.setattr(fetch.subprocess, "run", lambda *a, **k: failed)
    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refused)
    assert command.main(["lpips"]) == 2
    error = capsys.readouterr().err.strip()
    assert "No matching distribution found" in error
    assert "no route to host" in error
    assert len(error.splitlines()) == 1


def test_the_command_names_what_it_fetches(empty_caches, capsys):
    assert command.main(["lpip"]) == 2
    assert "did you mean 'lpips'?" in capsys.readouterr().err
    assert command.main(["lpips", "--dry_run"]) == 0
    assert str(empty_caches / "rtil") in capsys.readouterr().out
