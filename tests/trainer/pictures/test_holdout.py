"""Held-out pictures: a function of seed and content, stable as a set grows, and never the last of a concept."""

from hashlib import sha256

from hypothesis import given
from hypothesis import strategies as st

from trainer.pictures.holdout import Candidate, count, held_out


def pictures(number: int, group: str = "0", prior: bool = False, first: int = 0) -> list[Candidate]:
    names = (sha256(str(index).encode()).hexdigest()[:32] for index in range(first, first + number))
    return [Candidate(name, group, prior) for name in names]


def test_below_forty_pictures_nothing_is_held_out_unless_asked():
    assert [count(number, "auto") for number in (1, 39, 40, 100, 1000)] == [0, 0, 4, 10, 32]
    assert [count(number, 0.1) for number in (6, 100)] == [1, 10] and count(100, 0) == 0
    assert not held_out(pictures(39), "auto", 0) and len(held_out(pictures(40), "auto", 0)) == 4


@given(st.integers(40, 120), st.integers(1, 30), st.integers(0, 5))
def test_adding_pictures_moves_few(number, more, seed):
    before, after = (held_out(pictures(size), 0.2, seed) for size in (number, number + more))
    added = {one.content for one in pictures(more, first=number)}
    assert len(before - after) <= len(after & added), "a picture comes back only where a new one takes its place"
    assert len(after) == round(0.2 * (number + more))


def test_order_does_not_count_and_the_seed_does():
    known = pictures(60)
    assert held_out(known, 0.2, 3) == held_out(known[::-1], 0.2, 3) != held_out(known, 0.2, 4)


def test_a_copy_goes_with_its_original_and_what_regularisation_shows_stays():
    known = pictures(10)
    assert len(held_out([*known, *known], 0.2, 0)) == 2
    shown = [one._replace(prior=True) for one in known[:9]]
    assert held_out([*known, *shown], 0.5, 0) <= {known[9].content}


def test_what_most_pictures_show_is_left_to_learn_from():
    pictures = [Candidate("many", "0", False)] * 50 + [Candidate(f"{n}", "0", False) for n in range(9)]
    for seed in range(20):
        assert "many" not in held_out(pictures, 0.3, seed)


def test_no_concept_loses_its_last_picture():
    known = [*pictures(1, "hat"), *pictures(9, "0", first=1)]
    for seed in range(30):
        assert known[0].content not in held_out(known, 0.5, seed)
    assert not held_out(pictures(1), 0.5, 0)
