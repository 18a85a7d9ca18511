import pickle
import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtil.errors import UserError
from rtil.training.growing import GrowthSchedule, growth_schedule

RTIL_BATCHES = [32, 32, 32, 16, 8, 6, 6]
KARRAS_BATCHES = [128, 128, 128, 64, 32, 16, 8, 4, 4]
SIDES = [4, 8, 16, 32, 64, 128, 256]


def walk(schedule: GrowthSchedule, images_seen: int = 0) -> list[int]:
    """Return where every step starts, up to the end."""
    starts = []
    while images_seen < schedule.total_images:
        starts.append(images_seen)
        images_seen += schedule.batch_at(images_seen)
    assert images_seen == schedule.total_images
    return starts


@st.composite
def schedules(draw: st.DrawFn) -> tuple[GrowthSchedule, float]:
    sides = SIDES[: draw(st.integers(2, 7))]
    batches = draw(st.dictionaries(st.sampled_from(sides), st.integers(1, 40)))
    lengths = draw(st.none() | st.lists(st.floats(0.01, 2), min_size=len(sides), max_size=len(sides)))
    stages = dict(zip(sides, lengths, strict=True)) if lengths else None
    kimg = sum(lengths) if lengths else draw(st.floats(0.01, 20))
    preset = draw(st.sampled_from(["default", "rtil", "karras"]))
    return growth_schedule(preset, sides[-1], kimg, batches, stages), kimg


def test_rtil_preset_is_the_papers_training():
    iterations = 85_714  # 600,000 / 7
    schedule = growth_schedule("rtil", 256, iterations * 132 / 1000)  # one iteration of each of the stages: 132 images
    assert [stage.side for stage in schedule.stages] == SIDES
    assert [stage.blocks for stage in schedule.stages] == [1, 2, 3, 4, 5, 6, 7]
    assert [stage.batch for stage in schedule.stages] == RTIL_BATCHES
    assert [stage.images / stage.batch for stage in schedule.stages] == [iterations] * 7
    assert schedule.total_images == 11_314_248
    for stage in schedule.stages[1:]:  # alpha = min(1, 2 iteration / (total / 7))
        for iteration in (0, 1, 12_345, 42_857, 60_000, 85_713):
            _, fade = schedule.at(stage.first_image + iteration * stage.batch)
            assert fade == pytest.approx(min(1, 2 * iteration / iterations), abs=1e-12)


def test_karras_preset_is_version_2_of_their_code():
    schedule = growth_schedule("karras", 1024, 10_200)  # 600 stable at 4 px, 600 fade + 600 stable at 8 others
    assert [stage.batch for stage in schedule.stages] == KARRAS_BATCHES
    borders = [0, 600, *(600 + 1200 * stage for stage in range(1, 9))]
    for stage, start, end in zip(schedule.stages, borders[:-1], borders[1:], strict=True):
        assert stage.first_image == pytest.approx(start * 1000, abs=64)
        assert stage.images == pytest.approx((end - start) * 1000, abs=128)
        assert stage.fade_images == pytest.approx(600_000 if stage.side > 4 else 0, abs=64)
    assert schedule.total_images == 10_200_000
    half = growth_schedule("karras", 1024, 5_100)
    assert [stage.images for stage in half.stages] == pytest.approx([s.images / 2 for s in schedule.stages], abs=128)


def test_default_preset():
    schedule = growth_schedule("default", 64, 100 * 0.48)
    assert [stage.images for stage in schedule.stages] == [4800, 9600, 9600, 9600, 14400]
    assert [stage.fade_images for stage in schedule.stages] == [0, 4800, 4800, 4800, 7200]
    assert [stage.batch for stage in schedule.stages] == [16, 16, 16, 16, 8]


@pytest.mark.parametrize("preset", ["default", "rtil"])
def test_batch_above_256_px(preset):
    assert [stage.batch for stage in growth_schedule(preset, 1024, 1000).stages[-3:]] == [6, 4, 4]


@given(schedules())
def test_steps_fill_every_stage_and_never_straddle_two(case):
    schedule, _ = case
    starts = set(walk(schedule))
    for before, stage in pairwise(schedule.stages):
        assert stage.first_image == before.first_image + before.images
        assert stage.side == 2 * before.side
        assert stage.first_image in starts
    assert schedule.stages[0].first_image == 0
    assert {schedule.at(start)[0] for start in starts} == set(schedule.stages)


@given(schedules())
def test_total_is_kept(case):
    schedule, kimg = case
    error = schedule.total_images - 1000 * kimg
    assert error >= -schedule.stages[-1].batch / 2 - 1e-6
    assert error <= sum(stage.batch for stage in schedule.stages)  # one batch for stages that are due less
    if all(stage.images > stage.batch for stage in schedule.stages):
        assert error <= schedule.stages[-1].batch / 2 + 1e-6


@given(schedules(), st.data())
def test_walk_goes_on_from_any_step(case, data):
    schedule, _ = case
    starts = walk(schedule)
    index = data.draw(st.integers(0, len(starts) - 1))
    assert walk(schedule, starts[index]) == starts[index:]


@given(schedules())
def test_fade_rises_over_the_first_half_of_every_stage_but_the_first(case):
    schedule, _ = case
    for start in walk(schedule):
        stage, fade = schedule.at(start)
        half = stage.images // 2
        into = start - stage.first_image
        assert 0 <= into < stage.images
        assert fade == (into / half if stage.side > 4 and into < half else 1.0)
        assert 0 <= fade <= 1


def test_steps_go_on_after_the_end_in_the_last_stage():
    schedule = growth_schedule("rtil", 32, 5)
    end = schedule.total_images
    assert schedule.at(end) == (schedule.stages[3], 1.0)
    assert schedule.batch_at(end + 16) == 16


def test_position_where_no_step_starts_is_refused():
    schedule = growth_schedule("rtil", 8, 1.28)
    with pytest.raises(UserError, match=r"starts at image 650 \(batches of 32 from image 640\)"):
        schedule.batch_at(650)


def test_batches_change_the_rtil_stages_to_equal_iterations():
    schedule = growth_schedule("rtil", 16, 7, batches={4: 40, 16: 20})
    assert [(stage.batch, stage.images) for stage in schedule.stages] == [(40, 3040), (32, 2432), (20, 1520)]


def test_explicit_stages_replace_the_shares_only():
    lengths = {4: 0.64, 8: 3.2, 16: 0.32}
    schedule = growth_schedule("karras", 16, 4.2, {8: 64, 16: 16}, lengths)  # 4.16 is within 1 %
    assert [stage.images for stage in schedule.stages] == [640, 3200, 320]
    assert [stage.fade_images for stage in schedule.stages] == [0, 1600, 160]
    assert [stage.batch for stage in schedule.stages] == [128, 64, 16]


def test_bound_method_travels_to_workers():
    schedule = growth_schedule("rtil", 32, 5)
    batch_at = pickle.loads(pickle.dumps(schedule.batch_at))  # noqa: S301 what a DataLoader does
    assert batch_at(0) == 32
    assert batch_at(schedule.stages[-1].first_image) == 16


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"resolution": 12}, "resolution 12 is not valid: use a power of two"),
        ({"batches": {32: 8}}, "batches has the side 32: valid are 4, 8, 16"),
        ({"batches": {8: 0}}, "batches has 0 for side 8: use a whole number of at least 1"),
        ({"stages": {4: 5, 8: 5}}, "stages list 4, 8, the data has 16 px: list 4, 8, 16, in this order"),
        ({"stages": {4: 2, 8: 2, 16: 2, 32: 4}}, "stages list 4, 8, 16, 32, the data has 16 px: list 4, 8, 16,"),
        ({"stages": {8: 5, 16: 5}}, "stages list 8, 16, the data has 16 px: list 4, 8, 16"),
        ({"stages": {8: 5, 4: 3, 16: 2}}, "stages list 8, 4, 16, the data has 16 px: list 4, 8, 16, in this order"),
        ({"stages": {}}, "stages list no side, the data has 16 px"),
        ({"stages": {4: 5, 8: 0, 16: 5}}, "stages has 0 kimg for side 8: use a number above 0"),
        ({"stages": {4: 5, 8: -1, 16: 6}}, "stages has -1 kimg for side 8: use a number above 0"),
        (
            {"stages": {4: 2, 8: 3, 16: 5.2}},
            "stages add up to 10.2 kimg and kimg is 10: give kimg 10.2, or stages of 10 in all",
        ),
        ({"stages": {4: 2, 8: 3, 16: 4.8}}, "stages add up to 9.8 kimg and kimg is 10: give kimg 9.8, or stages of 10"),
    ],
)
def test_mistakes_are_named_in_one_line(arguments, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        growth_schedule(**({"preset": "default", "resolution": 16, "kimg": 10} | arguments))
    assert "\n" not in str(caught.value)
