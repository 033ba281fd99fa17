import torch
from aot.tiny import make_model
from torch import nn

from qcompile.modules import (
    convolutions,
    inner_tensors,
    is_sensitive,
    kept_by_class,
    linears,
    repeated_blocks,
    stored_bytes,
    stored_tensors,
    tensor_bytes,
    twin_of,
)
from qcompile.schemes import SCHEMES


def test_blocks_are_what_diffusers_names_or_lists_of_one_class() -> None:
    model = make_model()
    assert list(repeated_blocks(model)) == ["blocks.0", "blocks.1", "blocks.2"]
    model._repeated_blocks = ["Linear"]
    assert list(repeated_blocks(model))[:2] == ["embed", "blocks.0.first"]


def test_single_children_and_blocks_inside_blocks_are_not_listed() -> None:
    inner = nn.ModuleList([nn.ReLU(), nn.ReLU()])
    outer = nn.ModuleDict(
        {"list": nn.ModuleList([nn.Sequential(inner), nn.Sequential(inner)]), "one": nn.ModuleList([nn.ReLU()])}
    )
    assert list(repeated_blocks(outer)) == ["list.0", "list.1"]


def test_what_a_list_is_searched_for_is_called_and_holds_layers() -> None:
    lists = nn.ModuleList([nn.ModuleList([nn.Sequential(nn.ReLU()), nn.Sequential(nn.ReLU())]), nn.ModuleList()])
    convolutions = nn.ModuleList([nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)])
    model = nn.ModuleDict({"levels": lists, "convolutions": convolutions})
    assert list(repeated_blocks(model)) == ["levels.0.0", "levels.0.1"]


def test_a_class_that_names_blocks_it_does_not_have_is_searched_like_others() -> None:
    model = make_model()
    model._repeated_blocks = ["NotThere"]
    assert list(repeated_blocks(model)) == ["blocks.0", "blocks.1", "blocks.2"]


def test_hints_of_a_class_are_read_as_diffusers_reads_them() -> None:
    model = make_model()
    assert kept_by_class(model, "blocks.0.first") is None
    model._skip_layerwise_casting_patterns = ["^proj$", "norm"]
    model._keep_in_fp32_modules = ["wo"]
    assert kept_by_class(model, "proj") == "_skip_layerwise_casting_patterns: ^proj$"
    assert kept_by_class(model, "blocks.0.proj") is None
    assert kept_by_class(model, "blocks.0.norm1.linear") == "_skip_layerwise_casting_patterns: norm"
    assert kept_by_class(model, "block.0.wo") == "_keep_in_fp32_modules: wo"
    assert kept_by_class(model, "block.0.words") is None


def test_sensitive_names() -> None:
    for name in (
        "norm1.linear",
        "time_text_embed.linear_1",
        "img_mod.1",
        "adaLN_modulation.1",
        "x_embedder",
        "blocks.0.norm",
    ):
        assert is_sensitive(name), name
    for name in ("attn.to_q", "ff.net.0.proj", "proj_out", "proj_mlp", "model.layer"):
        assert not is_sensitive(name), name


def test_bytes_of_plain_and_quantized_tensors() -> None:
    model = nn.Sequential(nn.Linear(32, 48, dtype=torch.bfloat16))
    assert stored_bytes(model) == (32 * 48 + 48) * 2
    SCHEMES["int8_dynamic"].quantize(model[0])
    parts = list(inner_tensors(model[0].weight))
    assert [part.dtype for part in parts] == [torch.int8, torch.float32, torch.int8]
    assert tensor_bytes(model[0].weight) == 32 * 48 + 48 * 4 + 48


def test_tied_tensors_count_once_and_unsaved_buffers_not_at_all() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)})
    model["b"].weight = model["a"].weight
    model.register_buffer("table", torch.zeros(100), persistent=False)
    assert list(stored_tensors(model)) == ["a.weight"]
    assert stored_bytes(model) == 64


def test_layers_by_name() -> None:
    model = nn.ModuleDict({"conv": nn.Conv2d(1, 1, 1), "lin": nn.Linear(2, 2), "deep": nn.Sequential(nn.Linear(2, 2))})
    assert list(linears(model)) == ["lin", "deep.0"]
    assert list(convolutions(model)) == ["conv"]


def test_a_twin_shares_plain_tensors_and_nothing_else() -> None:
    model = nn.Sequential(nn.Linear(32, 48, dtype=torch.bfloat16), nn.BatchNorm1d(48)).requires_grad_(False)
    model[0].extra = {"scale": 2}
    SCHEMES["int8_dynamic"].quantize(model[0])
    twin = twin_of(model)
    pairs = [*zip(model.state_dict(keep_vars=True).items(), twin.state_dict(keep_vars=True).items(), strict=True)]
    assert len(pairs) == 7
    for (name, mine), (other, theirs) in pairs:
        assert (name, type(mine), mine.requires_grad) == (other, type(theirs), theirs.requires_grad)
        memory = [[part.data_ptr() for part in inner_tensors(tensor)] for tensor in (mine, theirs)]
        assert memory[0] == memory[1]
    assert twin[0].weight is not model[0].weight
    assert twin[0] is not model[0]
    assert twin[0].extra == model[0].extra
    assert twin[0].extra is not model[0].extra
    rows = torch.randn(4, 32, dtype=torch.bfloat16)
    assert torch.equal(twin[0](rows), model[0](rows))
    twin[0].weight = nn.Parameter(torch.zeros(48, 32, dtype=torch.bfloat16), requires_grad=False)
    assert model[0](rows).any()


def test_a_twin_ties_what_is_tied() -> None:
    model = nn.ModuleDict({"a": nn.Linear(4, 4, bias=False), "b": nn.Linear(4, 4, bias=False)})
    model["b"].weight = model["a"].weight
    twin = twin_of(model)
    assert twin["a"].weight is twin["b"].weight
