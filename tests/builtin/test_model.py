"""The embedded model: what it is made of, and that it paints what it is told."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from qcompile.builtin import BUILTINS, DEFAULT_CALL, builtin_folder
from qcompile.builtin.captions import Caption, Thing, held_out_captions, parse_caption
from qcompile.builtin.evaluate import evaluate, paint_captions
from qcompile.builtin.score import score_images
from qcompile.builtin.train import main as train

FOLDER = builtin_folder("flux-mini")


@pytest.fixture(scope="module")
def pipeline():
    from diffusers import FluxPipeline

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        found = FluxPipeline.from_pretrained(FOLDER, dtype=torch.bfloat16, use_safetensors=True)
    found.set_progress_bar_config(disable=True)
    return found


def test_it_is_small_and_holds_nothing_but_safetensors_and_json() -> None:
    files = [path for path in FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 12_000_000
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in FOLDER.rglob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"BF16"}, path  # noqa: SIM118


def test_it_is_a_genuine_flux_pipeline(pipeline) -> None:
    classes = {name: type(part).__name__ for name, part in pipeline.components.items() if part is not None}
    assert classes["transformer"] == "FluxTransformer2DModel"
    assert classes["vae"] == "AutoencoderKL"
    assert classes["text_encoder"] == "CLIPTextModel"
    assert classes["text_encoder_2"] == "T5EncoderModel"
    assert classes["scheduler"] == "FlowMatchEulerDiscreteScheduler"
    assert pipeline.tokenizer.is_fast
    assert pipeline.tokenizer_2.is_fast
    config = pipeline.transformer.config
    assert (config.num_layers, config.num_single_layers, config.guidance_embeds) == (2, 3, True)


def test_the_tokenizer_knows_every_word(pipeline) -> None:
    for tokenizer in (pipeline.tokenizer, pipeline.tokenizer_2):
        for caption in held_out_captions(200):
            ids = tokenizer(caption.text).input_ids
            assert tokenizer.unk_token_id not in ids
            assert len(ids) <= 32
    assert pipeline.tokenizer("A RED circle").input_ids == pipeline.tokenizer("a red circle").input_ids


def test_it_paints_what_it_is_told(pipeline) -> None:
    colours = ("red", "green", "blue", "yellow", "purple", "orange", "black", "white")
    captions = [
        Caption(back, (Thing(front, "square", "large"),))
        for back, front in zip(colours, colours[1:] + colours[:1], strict=True)
    ]
    totals = score_images(paint_captions(pipeline, captions, batch=8), captions)
    assert totals.background_colour == 1
    assert totals.object_colour >= 7 / 8


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(96, 96), (160, 160), (192, 192), (96, 160)])
def test_other_sizes_are_sensible(pipeline, height: int, width: int) -> None:
    captions = held_out_captions(200)[:8]
    call = dict(DEFAULT_CALL["flux-mini"]) | {"height": height, "width": width}
    images = paint_captions(pipeline, captions, batch=8, call=call)
    assert images[0].shape == (height, width, 3)
    totals = score_images(images, captions)
    assert totals.background_colour == 1
    assert totals.object_colour >= 6 / 8


@pytest.mark.slow
def test_the_quality_targets_on_two_hundred_held_out_captions(pipeline) -> None:
    assert DEFAULT_CALL["flux-mini"]["num_inference_steps"] <= 28
    totals = evaluate(pipeline, 200)
    assert totals.background_colour >= 0.95
    assert totals.object_colour >= 0.95
    assert totals.shape >= 0.90
    assert totals.relation >= 0.90


def test_a_caption_has_its_own_noise_whatever_the_batch(pipeline) -> None:
    captions = [parse_caption("a red circle on a blue background"), parse_caption("a white star on a black background")]
    call = dict(DEFAULT_CALL["flux-mini"]) | {"num_inference_steps": 4}
    together = paint_captions(pipeline, captions, batch=2, call=call)
    alone = paint_captions(pipeline, captions, batch=1, call=call)
    for one, other in zip(together, alone, strict=True):
        assert np.abs(one.astype(int) - other.astype(int)).mean() < 4


@pytest.mark.long
def test_training_runs_from_nothing(tmp_path: Path) -> None:
    train(["--out", str(tmp_path), "--quick", "--batch", "4"])
    assert (tmp_path / "model" / "model_index.json").is_file()
    assert set((tmp_path / "training_record.json").read_text().split('"')) >= {
        "text",
        "autoencoder",
        "denoiser",
        "guidance",
    }


def test_names() -> None:
    assert BUILTINS == ("flux-mini",)
    with pytest.raises(KeyError, match="no builtin model is called 'other'; there is: flux-mini"):
        builtin_folder("other")
