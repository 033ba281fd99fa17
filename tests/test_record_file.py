from pathlib import Path

import pydantic
import pytest

from qcompile import record_file
from qcompile.errors import ModelError
from qcompile.record_file import read_record_file


class Part(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid")
    value: pydantic.FiniteFloat


class Whole(pydantic.BaseModel):
    parts: tuple[Part, ...]


def test_a_record_is_read(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"parts": [{"value": 1.5}]}')
    assert read_record_file(Whole, path, "qcompile bench") == Whole(parts=(Part(value=1.5),))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("", "Invalid JSON"),
        ('{"parts": [', "Invalid JSON"),
        ("[]", "Input should be an object"),
        ("{}", "parts: Field required"),
        ('{"parts": [{"value": 1}, {"value": "much"}]}', "parts.1.value: Input should be a valid number"),
        ('{"parts": [{"value": NaN}]}', "parts.0.value: Input should be a finite number"),
        ('{"parts": [{"value": 1, "more": 2}]}', "parts.0.more: Extra inputs are not permitted"),
        ("[" * 100_000, "Invalid JSON: recursion limit exceeded"),
    ],
)
def test_errors_name_file_and_place(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(ModelError) as caught:
        read_record_file(Whole, path, "qcompile bench")
    message = str(caught.value)
    assert message.startswith(f"{path} is no record of `qcompile bench`: {place}")
    assert message.endswith("Make one with `qcompile bench … --record FILE`.")


def test_files_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"r\.json is no record of `qcompile verify`: it can't be read \(No such file"):
        read_record_file(Whole, tmp_path / "r.json", "qcompile verify")
    with pytest.raises(ModelError, match=r"it can't be read \(Is a directory"):
        read_record_file(Whole, tmp_path, "qcompile verify")
    monkeypatch.setattr(record_file, "MAX_BYTES", 3)
    (tmp_path / "r.json").write_text("null")
    with pytest.raises(ModelError, match="it has more than 3 bytes, and no record has"):
        read_record_file(Whole, tmp_path / "r.json", "qcompile verify")
