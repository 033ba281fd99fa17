import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from conftest import ROOT

import qcompile
from qcompile.artifact.manifest import MANIFEST
from qcompile.artifact.read import read_artifact
from qcompile.artifact.write import write_manifest
from qcompile.errors import ArtifactError, ModelError
from qcompile.pipeline import Made, load_pipeline, meta_pipeline
from qcompile.source import find_folder

GOLDEN = ROOT / "serialization" / "golden" / "pipeline-int8_dynamic"


def changed(folder: Path, file: str, change: object, source: Path = GOLDEN) -> Path:
    """A copy of a pipeline's folder with a file that fits nothing, and digests that are right.

    A mapping is added to the JSON that is there; anything else takes its place.
    """
    shutil.copytree(source, folder)
    if isinstance(change, dict) and change:
        change = json.loads((folder / file).read_bytes()) | change
    (folder / file).write_bytes(change if isinstance(change, bytes) else json.dumps(change).encode())
    if (folder / MANIFEST).exists():
        write_manifest(folder, read_artifact(source).manifest)
    return folder


UNFIT = [
    ("vae/config.json", {"block_out_channels": []}, "no AutoencoderKL can be built from it: IndexError: "),
    ("vae/config.json", {"norm_num_groups": 0}, "no AutoencoderKL can be built from it: "),
    ("transformer/config.json", {"num_layers": "x"}, "no FluxTransformer2DModel can be built from it: "),
    ("transformer/config.json", {"num_attention_heads": "x"}, "no FluxTransformer2DModel can be built from it: "),
    (
        "text_encoder_2/config.json",
        {"num_heads": "x"},
        "no T5EncoderModel can be built from it: .* expected int, got str",
    ),
    ("text_encoder_2/config.json", {"num_heads": -1}, "no T5EncoderModel can be built from it: "),
    ("text_encoder/config.json", {"num_hidden_layers": "x"}, "diffusers can't load it: .* expected int, got str"),
    ("text_encoder/config.json", {"num_attention_heads": 0}, "diffusers can't load it: "),
    pytest.param(
        "text_encoder/config.json",
        {"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}},
        "diffusers can't load it: .*requires bitsandbytes",
        marks=pytest.mark.skipif(find_spec("bitsandbytes") is not None, reason="bitsandbytes is installed"),
    ),
    ("text_encoder/config.json", [], "diffusers can't load it: "),
    ("text_encoder/model.safetensors", b"\x08" + bytes(20), "diffusers can't load it: .*header"),
    ("tokenizer/tokenizer.json", {}, "diffusers can't load it: KeyError: 'added_tokens'"),
    ("tokenizer/tokenizer.json", {"model": {"type": "nosuch"}}, "diffusers can't load it: "),
    ("tokenizer/tokenizer_config.json", {"added_tokens_decoder": 1}, "diffusers can't load it: "),
    ("scheduler/scheduler_config.json", {"num_train_timesteps": "x"}, "diffusers can't load it: 'str' object"),
    ("scheduler/scheduler_config.json", [], "diffusers can't load it: "),
]


@pytest.mark.parametrize(("file", "change", "words"), UNFIT)
def test_what_fits_no_component_is_an_error_that_names_it(
    tmp_path: Path, file: str, change: object, words: str
) -> None:
    folder = changed(tmp_path / "artifact", file, change)
    with pytest.raises(ModelError, match=f"/artifact/{Path(file).parent}: {words}") as caught:
        qcompile.load(folder, device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("vae/config.json", {"block_out_channels": []}),
        ("text_encoder/config.json", {"num_hidden_layers": "x"}),
        ("tokenizer/tokenizer.json", {"model": {"type": "nosuch"}}),
        ("scheduler/scheduler_config.json", {"num_train_timesteps": "x"}),
    ],
)
def test_a_model_folder_that_fits_no_component(tmp_path: Path, file: str, change: object) -> None:
    folder = changed(tmp_path / "artifact", file, change, find_folder("builtin:flux-mini"))
    for load in (
        lambda: load_pipeline(folder, torch.bfloat16, torch.device("cpu")),
        lambda: meta_pipeline(folder, torch.bfloat16),
    ):
        with pytest.raises(ModelError, match=f"/artifact/{Path(file).parent}: "):
            load()


class Bug(Exception):
    """No error of a library."""


@pytest.mark.parametrize("error", [Bug("a bug"), ArtifactError("bad_tensors", "known"), KeyboardInterrupt()])
def test_other_errors_pass(error: BaseException) -> None:
    with pytest.raises(type(error)) as caught, Made(Path("/somewhere"), "nothing can be made of it"):
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Exception("data did not match"), "data did not match"),
        (ValueError("first\nsecond"), "first"),
        (ValueError("first:\n  second\nthird"), "first: second"),
        (KeyError("a"), "KeyError: 'a'"),
        (AssertionError(), "AssertionError: "),
        (OSError(2, "gone"), "[Errno 2] gone"),
    ],
)
def test_an_error_is_one_line(error: Exception, words: str) -> None:
    with pytest.raises(ModelError) as caught, Made(Path("/somewhere"), "nothing can be made of it"):
        raise error
    assert str(caught.value) == f"/somewhere: nothing can be made of it: {words}"
