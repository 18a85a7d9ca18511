import json

from benchmarks.memory import MemoryOptions, measure_all, run_case, settings
from rtil.training.config import StyleGAN2Config


def test_cases_are_counted():
    options = MemoryOptions(resolutions=[8], batches=[4, 8], width=16)
    cases = measure_all(options)["cases"]
    assert [(case["batch"], case["activation_checkpointing"]) for case in cases] == [
        (4, False),
        (4, True),
        (8, False),
        (8, True),
    ]
    assert cases[2]["step_mb"] > cases[0]["step_mb"]
    assert json.loads(json.dumps(cases)) == cases


def test_a_case_is_measured():
    options = MemoryOptions(width=8, precision="float32")
    assert run_case(StyleGAN2Config(**settings(8, 4, options, checkpointing=True))) >= 0


def test_widths_are_those_of_the_paper():
    channels = settings(1024, 4, MemoryOptions(), checkpointing=False)["channels"]
    assert channels == {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64, 1024: 32}
