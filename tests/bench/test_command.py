"""What `qcompile bench` makes of its options."""

from pathlib import Path

import pytest

from qcompile.cli import main

QUICK = ["--steps", "1", "--images", "0", "--cold-starts", "0", "--no-limits"]


@pytest.mark.parametrize("price", ["inf", "nan", "-1"])
def test_prices_that_are_none(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "nothing", f"--usd-per-hour={price}"]) == 2
    assert f"--usd-per-hour {float(price)}: give a price above 0" in capsys.readouterr().err


def test_the_record_is_asked_for_before_anything_is_measured(
    eager_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert main(["bench", str(eager_artifact), *QUICK, "--record", str(tmp_path / "file" / "measured")]) == 2
    found = capsys.readouterr()
    assert "--record" in found.err
    assert "Choose another place" in found.err
    assert "warm up" not in found.err


def test_arms_may_be_written_with_spaces_and_twice(eager_artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(eager_artifact), *QUICK, "--arms", "eager_quantized, eager_quantized,"]) == 0
    assert capsys.readouterr().out.count("eager_quantized  step") == 1
