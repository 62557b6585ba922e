from app.meter import Meter


class Clock:
    """A clock that stands still until it is told."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_no_rate_before_the_first_item() -> None:
    meter = Meter(10, clock=Clock())
    assert (meter.rate, meter.eta_s) == (None, None)


def test_rate_and_remaining_time() -> None:
    clock = Clock()
    meter = Meter(10, clock=clock)
    clock.now += 2
    meter.add(4)
    assert (meter.rate, meter.eta_s) == (2.0, 3.0)


def test_items_done_before_the_start_do_not_count_as_speed() -> None:
    clock = Clock()
    meter = Meter(10, done=6, clock=clock)
    clock.now += 1
    meter.add(1)
    assert (meter.done, meter.rate, meter.eta_s) == (7, 1.0, 3.0)
