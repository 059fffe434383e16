"""Exponents and crossings of curves."""

import pytest

from hf_seqmodels.tasks.compare.curves import crossings, exponent, worded_crossings

LENGTHS = [64, 128, 256, 512, 1024]


@pytest.mark.parametrize("power", [0.0, 1.0, 2.0])
def test_powers_have_their_exponent(power: float) -> None:
    # Exact but for rounding.
    assert exponent(LENGTHS, [3 * length**power for length in LENGTHS]) == pytest.approx(power, abs=1e-12)


def test_the_last_octaves_decide() -> None:
    curve = [1000.0, 1000.0, 256.0**2, 512.0**2, 1024.0**2]
    assert exponent(LENGTHS, curve, octaves=2) == pytest.approx(2)
    assert exponent(LENGTHS, curve, octaves=4) != pytest.approx(2, abs=0.1)


def test_a_point_has_no_exponent() -> None:
    with pytest.raises(ValueError, match=r"octaves=0\.5"):
        exponent(LENGTHS, LENGTHS, octaves=0.5)


def test_curves_cross_where_they_are_equal() -> None:
    line, square = [100.0 * length for length in LENGTHS], [float(length**2) for length in LENGTHS]
    # Powers are straight lines between logarithms, so interpolation is exact.
    assert crossings(LENGTHS, line, square) == pytest.approx([100])
    assert crossings(LENGTHS, square, line) == pytest.approx([100])
    assert worded_crossings(LENGTHS, line, square) == "100"


def test_curves_cross_more_than_once_or_never() -> None:
    flat = [1.0] * 5
    assert crossings(LENGTHS, flat, [2.0, 0.5, 0.5, 0.5, 2.0]) == pytest.approx([2**6.5, 2**9.5])
    assert crossings(LENGTHS, flat, [2.0] * 5) == []
    assert worded_crossings(LENGTHS, flat, [2.0] * 5) == "no_crossing"


def test_a_crossing_may_lie_on_a_point() -> None:
    assert crossings(LENGTHS, [1.0] * 5, [4.0, 2.0, 1.0, 0.5, 0.25]) == pytest.approx([256])
    # Touching is no crossing.
    assert crossings(LENGTHS, [1.0] * 5, [4.0, 2.0, 1.0, 2.0, 4.0]) == []
