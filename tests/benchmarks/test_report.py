import pytest

from benchmarks.report import ReportOptions, main, measure


def test_every_file_of_a_made_up_evaluation_is_in_its_page():
    figures = measure(ReportOptions(pictures=2, cells=3, methods=2, side=8))
    assert figures["png_files"] == 2 + 2 * 3 * 2
    assert figures["report_mb"] > 0.03
    if "ready_s" not in figures:
        pytest.skip("needs Chromium for what opening takes: apt install chromium")
    assert figures["ready_s"] <= figures["drawn_s"]


def test_a_mistake_is_one_line(capsys):
    assert main(["--pictures", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
