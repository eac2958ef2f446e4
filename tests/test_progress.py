import pytest

from potstill.progress import Progress, duration


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (185, "3 min 05 s"), (3600, "1 h 00 min"), (7810, "2 h 10 min")]
)
def test_durations_read_well(seconds: float, text: str):
    assert duration(seconds) == text


def test_progress_estimates_what_remains_and_stays_quiet_between(capsys: pytest.CaptureFixture[str]):
    now = [0.0]
    progress = Progress(100, "row", every_s=5, clock=lambda: now[0])
    for seconds, done in [(2, 5), (6, 20), (8, 25), (12, 50)]:
        now[0] = seconds
        progress.at(done, "train")
    assert capsys.readouterr().out.splitlines() == [
        "… train, row 20/100, about 24 s left",
        "… train, row 50/100, about 12 s left",
    ]
