"""The rivals under this project's convention: dialects, published files, training, blending."""

import json
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from golden.make_tensorflow_checkpoint import value_of
from networks import images, masks, one_thread  # noqa: F401
from torch import Tensor
from torch7 import Module, Writer

from lbam_fast.evaluation.methods import harmonic
from lbam_fast.evaluation.rivals import (
    DIALECTS,
    METHODS,
    GlobalLocalDiscriminator,
    NetworkMethod,
    Rival,
    RivalError,
    around_hole,
    load_rival,
)
from lbam_fast.evaluation.rivals.blending import blended, cloned
from lbam_fast.evaluation.rivals.tensor_bundle import TensorBundleError, read_tensor_bundle
from lbam_fast.evaluation.rivals.torch7 import Torch7Error, read_torch7
from lbam_fast.training import Settings, fit

TENSORFLOW = Path(__file__).parent / "golden" / "tensorflow_checkpoint"
HOLE = (0.5, 0.45, 0.4)
NEEDS = {"gl_otenim": {"hole": HOLE}}
PREFIXES = {name: "generator." if name.endswith("mmagic") else "" for name in DIALECTS}


def rival(name: str, base_width: int = 4, seed: int = 0) -> Rival:
    """A narrow one with weights that keep its signal alive."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = Rival(name, base_width=base_width, **NEEDS.get(name, {}))
        for module in made.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.1)
                module.running_var.uniform_(0.5, 1.5)
    return made.eval()


def pair(height: int = 128, width: int = 128) -> tuple[Tensor, Tensor]:
    """(image [2, 3, H, W], mask [2, 1, H, W]), in float32."""
    kinds = masks("box", "irregular", height=height, width=width, dtype=torch.float32)
    return images(2, height, width, dtype=torch.float32), kinds[:, :1]


class Returning(torch.nn.Module):
    """In place of a network: keeps what it is given, and gives its picture back."""

    def forward(self, x: Tensor, *others: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        self.given = (x, *others)
        return (x, x) if others else x[:, :3]


@pytest.mark.parametrize("name", DIALECTS)
def test_a_network_reads_what_its_public_code_gives_it(name, recipe_inputs):
    case, size, seed = recipe_inputs(name)
    image = images(2, *size, seed=seed)
    known = masks(*case["masks"], height=size[0], width=size[1], seed=seed)[:, :1]
    own = Rival(name, base_width=4, **NEEDS.get(name, {})).double()
    own.network = Returning()
    own(image.flip(1) if own.dialect.bgr else image, known)
    for given, expected in zip(own.network.given, case["inputs"], strict=True):
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-6)  # the dialects' colours are kept in float32


@pytest.fixture
def recipe_inputs():
    """A function: the golden case of a dialect with its inputs, its size and its seed."""
    from golden import rivals_recipe
    from test_rivals_golden import CASES

    def find(name):
        name = "ca_daa233" if name == "ca_daa233_sum" else name
        case = CASES[name]
        given = [torch.from_numpy(value) for value in rivals_recipe.inputs(name, case).values()]
        return {**case, "inputs": given}, tuple(case["size"]), case["seed"]

    return find


@pytest.mark.parametrize("name", DIALECTS)
def test_what_is_read_comes_back_as_it_was(name):
    """Colours, range and padding are undone: a network that repeats its input gives the picture, of any size."""
    image, mask = pair(70, 83)
    own = Rival(name, base_width=4, **NEEDS.get(name, {})).eval()
    own.network = Returning()
    output = own(image, mask)
    assert output.shape == image.shape
    if not own.dialect.normalised:
        output = output + own.mean
    far = ((output - image).abs() * mask).max()
    assert far < 1e-6 or (name == "gl_authors" and far > 0)  # that one's negative values are cut off


@pytest.mark.parametrize("name", DIALECTS)
def test_each_picture_is_filled_by_its_own_mask_and_nothing_of_its_hole(name):
    own, (image, mask) = rival(name), pair(72, 96)
    ruined = torch.where(mask > 0, image, torch.nan)
    with torch.inference_mode():
        together = own.outputs(ruined, mask)
        assert all(stage.isfinite().all() and stage.min() >= 0 and stage.max() <= 1 for stage in together)
        for i in range(2):
            alone = own.outputs(image[i : i + 1], mask[i : i + 1])
            for one, both in zip(alone, together, strict=True):
                torch.testing.assert_close(one[0], both[i], rtol=0, atol=1e-5)
    assert len(together) == (2 if own.dialect.method == "contextual-attention" else 1)


@pytest.mark.parametrize(("method", "blending"), [(method, "poisson") for method in METHODS] + [("global-local", "clone")])
def test_a_method_leaves_known_pixels_as_they_are(method, blending):
    picture = np.ascontiguousarray((255 * images(1, 65, 90)[0]).byte().permute(1, 2, 0).numpy())
    mask = np.zeros((65, 90), np.uint8)
    mask[20:41, 30:52] = 255
    before = mask.copy()
    filled = NetworkMethod(rival(METHODS[method]), blending=blending)(picture, mask)
    assert filled.dtype == np.uint8
    assert (filled == picture)[mask == 0].all()
    assert (filled != picture)[mask > 0].any()
    assert (mask == before).all()


def test_unknown_blending_is_refused():
    with pytest.raises(RivalError, match="blending is 'soft', expected poisson, clone, off"):
        NetworkMethod(rival("gl_mmagic"), blending="soft")


def test_rivals_that_there_are_not_are_refused():
    with pytest.raises(RivalError, match="there is no rival 'other'; expected one of pconv"):
        Rival("other")
    with pytest.raises(RivalError, match="has no levels to choose"):
        Rival("global-local", levels=8)
    with pytest.raises(RivalError, match=r"'mpv' in the config\.json"):
        Rival("gl_otenim")


def test_contextual_attention_without_a_known_patch_is_finite():
    image, mask = pair(72, 72)
    for name in ("ca_mmagic", "ca_daa233"):
        assert rival(name)(image, torch.zeros_like(mask)).isfinite().all()


# Published files


def published(name: str, folder: Path) -> tuple[Path, Rival]:
    """A narrow network in a file as its authors lay it out, and the network."""
    own = rival(name)
    state = {PREFIXES[name] + key: tensor.contiguous() for key, tensor in own.network.state_dict().items()}
    path = folder / "published.pth"
    match name:
        case "pconv_naoto":
            torch.save({"n_iter": 1000000, "model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}}, path)
        case "pconv_mmagic" | "gl_mmagic" | "ca_mmagic":
            state["disc.conv.weight"] = torch.zeros(3)
            torch.save({"meta": {"epoch": 1, "env_info": "text"}, "state_dict": state}, path)
        case "ca_authors_floor":
            torch.save({f"netG.{key}": tensor for key, tensor in state.items()}, path)
        case "gl_otenim":
            torch.save(state, path)
            (folder / "config.json").write_text(json.dumps({"mpv": HOLE}))
        case _:
            torch.save(state, path)
    return path, own


def assert_equal_networks(one: Rival, other: Rival) -> None:
    assert one.name == other.name
    for key, value in one.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[key], rtol=0, atol=0)


RECOGNISED = [name for name in DIALECTS if name not in ("ca_authors_round", "ca_daa233_sum")]


@pytest.mark.parametrize("name", RECOGNISED)
def test_a_published_file_is_recognised_by_its_keys(name, tmp_path):
    path, own = published(name, tmp_path)
    loaded = load_rival(own.dialect.method, path)
    assert_equal_networks(loaded, own)
    assert not loaded.training


@pytest.mark.parametrize("name", RECOGNISED)
def test_a_file_of_a_rival_of_ones_own_is_read_too(name, tmp_path):
    own = rival(name)
    torch.save({"model": own.state_dict()}, tmp_path / "own.pth")
    dialect = name if name.startswith("ca_authors") else None
    assert_equal_networks(load_rival(own.dialect.method, tmp_path / "own.pth", dialect=dialect), own)


def test_the_paper_s_size_is_recognised(tmp_path):
    own = Rival("pconv", base_width=2, levels=8)
    torch.save(
        {"state_dict": {f"generator.{key}": tensor for key, tensor in own.network.state_dict().items()}}, tmp_path / "a.pth"
    )
    assert_equal_networks(load_rival("pconv", tmp_path / "a.pth"), own)
    image, mask = pair(100, 100)
    assert own.eval()(image, mask).shape == image.shape


def test_files_that_do_not_fit_are_refused(tmp_path):
    path, own = published("ca_mmagic", tmp_path)
    with pytest.raises(RivalError, match=r"holds weights of contextual-attention .*ca_mmagic.*, not of pconv"):
        load_rival("pconv", path)
    with pytest.raises(RivalError, match="has the dialect ca_mmagic, not ca_daa233"):
        load_rival("contextual-attention", path, dialect="ca_daa233")
    state = own.network.state_dict()
    del state["stage2.decoder.dec3.conv.bias"]
    torch.save(state, path)
    with pytest.raises(RivalError, match=r"does not fit: missing: stage2.decoder.dec3.conv.bias"):
        load_rival("contextual-attention", path)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(RivalError, match="no network of pconv"):
        load_rival("pconv", path)
    with pytest.raises(RivalError, match="no weights file"):
        load_rival("pconv", tmp_path / "absent.pth")
    with pytest.raises(RivalError, match="there is no rival 'other'"):
        load_rival("other", path)


@pytest.mark.parametrize("method", METHODS)
def test_without_weights_it_says_where_they_are(method):
    with pytest.raises(RivalError, match=r"needs weights.*\n.*github"):
        load_rival(method, None)


def test_a_file_that_would_run_something_is_refused(tmp_path):
    """Planted fault: a pickle that makes a folder when it is read."""

    class Payload:
        def __reduce__(self):
            return Path.mkdir, (tmp_path / "made",)

    torch.save({"state_dict": Payload()}, tmp_path / "a.pth")
    with pytest.raises(RivalError, match="holds more than tensors"):
        load_rival("pconv", tmp_path / "a.pth")
    assert not (tmp_path / "made").exists()


def test_the_value_in_holes_of_otenim_comes_from_its_config(tmp_path):
    path, _ = published("gl_otenim", tmp_path)
    (tmp_path / "config.json").write_text('{"mpv": [0.5, 2, 0.4]}')
    with pytest.raises(RivalError, match="three numbers in"):
        load_rival("global-local", path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(RivalError, match="beside it: 'mpv'"):
        load_rival("global-local", path)


# Torch7


def torch7_completion_network(own: Rival, mean: object) -> bytes:
    """The authors' file: 50 modules, one of them with its filters as a matrix."""
    state = {key: tensor.double().numpy() for key, tensor in own.network.state_dict().items() if tensor.dim()}
    modules = {i: Module("nn.ReLU", inplace=True) for i in range(1, 51)}
    for key, value in state.items():
        number, kind = key.split(".")
        module = modules[int(number) + 1]
        module[kind] = value
        if key == "6.weight":
            module |= {"weight": value.reshape(len(value), -1), "nOutputPlane": 4, "nInputPlane": 4, "kH": 3, "kW": 3}
    return Writer().file({"mean": mean, "model": Module("nn.Sequential", modules=modules, train=False)})


@pytest.mark.parametrize("mean", [np.array([0.4, 0.45, 0.5]), {1: 0.4, 2: 0.45, 3: 0.5}])
def test_the_authors_files_in_torch_s_format_are_read(mean, tmp_path):
    own = rival("gl_authors", base_width=2)
    (tmp_path / "a.t7").write_bytes(torch7_completion_network(own, mean))
    loaded = load_rival("global-local", tmp_path / "a.t7")
    torch.testing.assert_close(loaded.mean.flatten(), torch.tensor([0.4, 0.45, 0.5]))
    own.mean.copy_(loaded.mean)
    for module in own.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.num_batches_tracked.zero_()
    assert_equal_networks(loaded, own)


def test_torch7_values(tmp_path):
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    shared = {"a": True, 2: None}
    value = {"turned": array.T, "whole": array, "one": shared, "other": shared, "text": "text", 1.5: -2.0}
    (tmp_path / "a.t7").write_bytes(Writer().file(value))
    read = read_torch7(tmp_path / "a.t7")
    assert (read["turned"] == array.T).all()
    assert read["turned"].dtype == np.float32
    assert (read["whole"] == array).all()
    assert read["one"] == {"a": True, 2: None}
    assert read["one"] is read["other"]
    assert (read["text"], read[1.5]) == ("text", -2.0)


def test_torch7_files_that_are_damaged_or_could_run_are_refused(tmp_path):
    path = tmp_path / "a.t7"
    deep: dict[str, object] = {}
    for _ in range(200):
        deep = {"inner": deep}
    whole = Writer().file({"mean": np.ones(3), "model": Module("nn.Sequential", modules={})})
    for content, message in [
        (whole[:-9], "bytes are to follow"),
        (struct.pack("<ii", 6, 1), "a value of type 6"),  # a function
        (Writer().file(Module("os.Process", command="x")), "an object of class 'os.Process'"),
        (whole.replace(struct.pack("<q", 3), struct.pack("<q", 2**40)), "beyond its storage|bytes are to follow"),
        (Writer().file(deep), "nested deeper"),
        (b"", "bytes are to follow"),
    ]:
        path.write_bytes(content)
        with pytest.raises(Torch7Error, match=message):
            read_torch7(path)
    path.write_bytes(whole)
    with pytest.raises(RivalError, match="looks like gl_authors, but has no filters"):
        load_rival("global-local", path)


# TensorFlow


def test_a_checkpoint_of_tensorflow_is_read_without_it():
    loaded = load_rival("contextual-attention", TENSORFLOW)
    assert loaded.name == "ca_authors_floor"
    for key, value in loaded.network.state_dict().items():
        assert (value.numpy() == value_of(key, list(value.shape))).all(), key
    assert load_rival("contextual-attention", TENSORFLOW / "snap-0.index", dialect="ca_authors_round").name == "ca_authors_round"


def test_tensorflow_s_other_tensors_are_read_too():
    tensors = read_tensor_bundle(TENSORFLOW / "snap-0.index")
    assert tensors["global_step"] == 430000
    assert tensors["discriminator/conv1/kernel"].tolist() == [0, 0, 0]


def test_damaged_checkpoints_of_tensorflow_are_refused(tmp_path):
    index = (TENSORFLOW / "snap-0.index").read_bytes()
    for content in (b"", index[:-1], index[:1000] + index[-48:], b"\xff" * 100 + index[-48:]):
        (tmp_path / "snap-0.index").write_bytes(content)
        with pytest.raises(TensorBundleError):
            read_tensor_bundle(tmp_path / "snap-0.index")
    (tmp_path / "snap-0.index").write_bytes(index)  # without its data
    with pytest.raises(RivalError, match="without its data files"):
        load_rival("contextual-attention", tmp_path)
    (tmp_path / "snap-0.index").unlink()
    with pytest.raises(RivalError, match=r"has 0 files \*.index"):
        load_rival("contextual-attention", tmp_path)


# Training


@pytest.mark.sampled("method")
@pytest.mark.parametrize(
    ("method", "name", "rate"),
    [
        ("pconv", "pconv_naoto", 0.1),  # whose weights are larger by the size of the window
        ("pconv", "pconv_mmagic", 1e-3),
        ("global-local", "gl_authors", 3e-3),
        ("global-local", "gl_otenim", 3e-3),
        ("global-local", "gl_mmagic", 3e-3),
        ("contextual-attention", "ca_daa233", 1e-3),
        ("contextual-attention", "ca_mmagic", 1e-3),
    ],
)
def test_a_rival_learns(method, name, rate):
    torch.manual_seed(0)
    own = Rival(name, base_width=8, **NEEDS.get(name, {})).train()
    image, mask = pair(*(128, 128) if method == "pconv" else (72, 72))
    optimizer = torch.optim.Adam(own.parameters(), rate)
    losses = []
    for _ in range(12):
        loss = sum((stage - image).abs().mean() for stage in own.outputs(image, mask))
        optimizer.zero_grad()
        loss.backward()
        assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in own.parameters())
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.sampled()
@pytest.mark.parametrize("method", METHODS)
def test_a_rival_is_trained_as_any_network_and_its_weights_load(method, tmp_path):
    (tmp_path / "photographs").mkdir()
    cv2.imwrite(str(tmp_path / "photographs" / "a.png"), np.random.default_rng(0).integers(0, 256, (160, 160, 3)))
    wanted = Settings(
        photographs=tmp_path / "photographs", output=tmp_path / "run", steps=2, batch_size=2, held_out=0, workers=0, device="cpu"
    )
    trained = fit(Rival(method, base_width=4), wanted, note=lambda sentence: None)
    assert_equal_networks(load_rival(method, tmp_path / "run" / "weights.safetensors"), trained)


def test_the_discriminators_as_published():
    """Shapes of Tables 2 and 3 of the paper: 5x5, stride 2, six and five convolutions, 1024 values each."""
    with torch.device("meta"):
        model = GlobalLocalDiscriminator()
        logits = model(torch.empty(2, 3, 256, 256), torch.empty(2, 3, 128, 128))
    assert logits.shape == (2, 1)
    for column, widths in ((model.whole, [64, 128, 256, 512, 512, 512]), (model.part, [64, 128, 256, 512, 512])):
        convolutions = [layer for layer in column if isinstance(layer, torch.nn.Conv2d)]
        assert [layer.out_channels for layer in convolutions] == widths
        assert {(layer.kernel_size, layer.stride) for layer in convolutions} == {((5, 5), (2, 2))}
        assert (column[-1].in_features, column[-1].out_features) == (4 * 4 * 512, 1024)
    assert model.join.in_features == 2048
    with pytest.raises(ValueError, match="size is 100, expected a power of 2"):
        GlobalLocalDiscriminator(size=100)


def test_the_part_lies_around_the_hole():
    image = images(3, 64, 96)
    mask = torch.ones(3, 1, 64, 96)
    mask[0, :, 20:30, 40:50] = 0
    mask[1, :, :4, -4:] = 0
    part = around_hole(image, mask, 32)
    assert torch.equal(part[0], image[0, :, 8:40, 28:60])
    assert torch.equal(part[1], image[1, :, :32, 64:])
    assert torch.equal(part[2], image[2, :, 16:48, 32:64])


# Blending


def laplacian(values: np.ndarray, hole: np.ndarray) -> np.ndarray:
    """Sum of the differences to the neighbours within the picture, at the hole's pixels."""
    total = np.zeros_like(values)
    for axis in (0, 1):
        step = np.diff(values, axis=axis)
        before, after = [(0, 0)] * 3, [(0, 0)] * 3
        before[axis], after[axis] = (1, 0), (0, 1)
        total += np.pad(step, after) - np.pad(step, before)
    return total[hole]


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(output, picture, hole): a hole in the corner, one at an edge, one inside."""
    rng = np.random.default_rng(0)
    hole = np.zeros((40, 50), bool)
    hole[:9, :12] = hole[20:31, 20:27] = hole[30:40, 40:43] = True
    return rng.uniform(size=(40, 50, 3)), rng.uniform(size=(40, 50, 3)), hole


def test_blending_keeps_the_output_s_laplacian_and_the_known_pixels(scene):
    output, picture, hole = scene
    filled = blended(output, picture, hole)
    assert (filled[~hole] == picture[~hole]).all()
    np.testing.assert_allclose(laplacian(filled, hole), laplacian(output, hole), rtol=0, atol=1e-12)


def test_blending_without_poisson_s_equation_is_caught(scene):
    """Planted fault: the output pasted."""
    output, picture, hole = scene
    pasted = np.where(hole[..., None], output, picture)
    assert np.abs(laplacian(pasted, hole) - laplacian(output, hole)).max() > 0.1


def test_blending_takes_away_a_shift_of_colour(scene):
    _, picture, hole = scene
    np.testing.assert_allclose(blended(picture + np.array([0.1, -0.2, 0.3]), picture, hole), picture, rtol=0, atol=1e-12)


def test_blending_of_a_flat_output_is_the_harmonic_fill(scene):
    _, picture, hole = scene
    levels = np.rint(255 * picture).astype(np.uint8)
    filled = blended(np.full_like(picture, 77), levels, hole)
    assert (np.rint(filled).astype(np.uint8) == harmonic(levels, 255 * hole.astype(np.uint8))).all()


def test_blending_where_nothing_is_known_or_no_hole(scene):
    output, picture, hole = scene
    assert (blended(output, picture, np.ones_like(hole)) == output).all()
    assert (blended(output, picture, np.zeros_like(hole)) == picture).all()


def test_opencv_s_blending_agrees_on_a_smooth_picture():
    y, x = np.mgrid[:64, :80]
    picture = np.stack([60 + x, 40 + 2 * y, 200 - x - y // 2], axis=-1).astype(np.uint8)
    mask = np.zeros((64, 80), np.uint8)
    mask[20:44, 30:52] = 255
    shifted = np.where(mask[..., None] > 0, picture + np.uint8(10), picture).astype(np.uint8)
    kept = mask.copy()
    result = cloned(shifted, mask)
    assert (mask == kept).all()
    assert (result == picture)[mask == 0].all()
    assert np.abs(result.astype(int) - picture).max() <= 6  # of a shift by 10
    assert (cloned(picture, np.zeros_like(mask)) == picture).all()


@pytest.mark.parametrize(("corner", "levels"), [(40, 29), (0, 40)])
def test_opencv_s_blending_is_as_far_from_the_solution_as_the_page_says(corner, levels):
    rng = np.random.default_rng(0)
    picture, output = rng.integers(0, 256, (2, 128, 128, 3)).astype(np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[corner : corner + 40, corner : corner + 40] = 255
    hole = mask > 0
    solution = np.rint(blended(output, picture, hole)).clip(0, 255)
    approximation = cloned(np.where(hole[..., None], output, picture), mask)
    assert abs(np.abs(solution - approximation)[hole].mean() - levels) < 3
