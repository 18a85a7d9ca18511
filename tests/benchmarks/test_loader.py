import pytest

from benchmarks.loader import LoaderOptions, main, measure_all


@pytest.mark.parametrize("store", ["folder", "zip"])
def test_every_set_is_made_and_served_by_processes(store):
    options = LoaderOptions(resolution=8, pictures=20, distinct=3, kinds=["png"], stores=[store], workers=[1], batch=2)
    options.seconds = 0.2
    (row,) = measure_all(options)["runs"]
    assert row["pictures"] == 20
    assert row["images_per_s"] > 0
    assert row["worker_mb"] > 1


def test_a_zip_has_as_many_pictures_as_fit(tmp_path):
    from benchmarks.loader import make_set

    options = LoaderOptions(pictures=100, zip_gb=1e-6)
    path, count = make_set(tmp_path, "zip", "png", [b"x" * 100, b"y" * 300], options)
    assert count == 5
    assert path.stat().st_size > 1000


def test_a_mistake_is_one_line(capsys):
    assert main(["--workers", "x"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
