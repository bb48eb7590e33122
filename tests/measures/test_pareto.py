"""Dominance, fronts, knee and hypervolume against brute force, closed forms and moocore."""

from __future__ import annotations

import sys
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as stn

from analyzer.errors import DataError, MissingExtraError
from analyzer.measures.pareto import (
    REFERENCE_MARGIN,
    better,
    dominance,
    front_of,
    hypervolume,
    knee,
    normalized,
    ranks,
    shortfall,
)

tables = st.tuples(st.integers(1, 9), st.integers(1, 4)).flatmap(
    lambda shape: stn.arrays(np.float64, shape, elements=st.integers(-3, 3).map(float))
)
intervals = st.tuples(st.integers(2, 8), st.integers(1, 4)).flatmap(
    lambda shape: st.tuples(
        stn.arrays(np.float64, shape, elements=st.floats(-3, 3)),
        stn.arrays(np.float64, shape, elements=st.floats(0, 1)),
    )
)


def ways(table, seed=0):
    return [bool(w) for w in np.random.default_rng(seed).integers(0, 2, table.shape[1])]


def plainly_dominates(a, b, maximize):
    """Pareto dominance in words: no worse anywhere, better somewhere."""
    pairs = [(x, y) if up else (-x, -y) for x, y, up in zip(a, b, maximize, strict=True)]
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)


@pytest.mark.plain
class TestDominance:
    @given(tables)
    def test_without_intervals_it_is_pareto_dominance(self, table):
        maximize = ways(table)
        expected = [[plainly_dominates(a, b, maximize) for b in table] for a in table]
        assert dominance(table, maximize).tolist() == expected

    @given(tables)
    def test_without_intervals_the_front_is_what_nothing_dominates(self, table):
        dominates = dominance(table, ways(table))
        assert front_of(dominates).tolist() == (~dominates.any(axis=0)).tolist()

    @given(tables)
    def test_ranks_are_those_of_peeling_fronts_off(self, table):
        maximize = ways(table)
        left, expected, rank = list(range(len(table))), [0] * len(table), 0
        while left:
            rank += 1
            front = [i for i in left if not any(plainly_dominates(table[j], table[i], maximize) for j in left)]
            for i in front:
                expected[i] = rank
            left = [i for i in left if i not in front]
        assert ranks(dominance(table, maximize)).tolist() == expected

    @given(intervals)
    def test_the_front_is_stable_whatever_the_uncertainty(self, material):
        values, half = material
        dominates = dominance(values, ways(values), values - half, values + half)
        front = front_of(dominates)
        assert front.any()
        assert not dominates[np.ix_(front, front)].any(), "one of the front dominates another"
        assert dominates[front].any(axis=0)[~front].all(), "one is left out that no model of the front dominates"

    @given(intervals)
    def test_wider_intervals_make_no_new_differences(self, material):
        values, half = material
        narrow = better(values, ways(values), values - half, values + half)
        wide = better(values, ways(values), values - 2 * half, values + 2 * half)
        assert not (wide & ~narrow).any()

    @given(intervals)
    def test_turning_an_objective_round_with_its_interval_changes_nothing(self, material):
        values, half = material
        maximize = ways(values)
        turned = [not way for way in maximize]
        low, high = values - half, values + 2 * half
        assert (better(values, maximize, low, high) == better(-values, turned, -high, -low)).all()

    def test_a_difference_counts_from_the_interval_of_the_difference(self):
        # Half widths 3 and 4: the interval of the difference has the half width 5.
        def ahead(difference):
            values = np.array([[difference], [0.0]])
            return better(values, [True], values - np.array([[3.0], [9.0]]), values + np.array([[9.0], [4.0]]))[0, 1, 0]

        assert not ahead(4.99)
        assert ahead(5.01)

    def test_a_tie_within_uncertainty_lets_the_other_objective_decide(self):
        values = np.array([[0.900, 0.50], [0.905, 0.10]])
        half = np.array([0.02, 0])
        assert dominance(values, [True, False], values - half, values + half)[1, 0]
        values[:, 0] = values[::-1, 0]
        assert dominance(values, [True, False]).sum() == 0
        assert dominance(values, [True, False], values - half, values + half).tolist() == [
            [False, False],
            [True, False],
        ]

    def test_missing_ends_count_as_exact(self):
        values = np.array([[1.0], [0.9]])
        nothing = np.full_like(values, np.nan)
        assert better(values, [True], nothing, nothing)[0, 1, 0]

    def test_along_a_chain_of_ties_the_far_end_rules_nothing_out(self):
        # Each model ties with its neighbour in the first objective and beats it in the second.
        values = np.array([[0.0, 4.0], [0.6, 3.0], [1.2, 2.0], [1.8, 1.0], [2.4, 0.0]])
        half = np.array([0.5, 0])
        dominates = dominance(values, [True, True], values - half, values + half)
        assert dominates.sum() == 4
        assert front_of(dominates).tolist() == [True, False, True, False, True]
        assert ranks(dominates).tolist() == [1, 2, 1, 2, 1]

    def test_models_that_dominate_each_other_in_a_circle_are_equals(self):
        # Rock, paper, scissors: each is ahead by 1.5 in one objective, the third lies between, within the tie of 1.
        values = np.array([[1.5, 0.75, 0.0], [0.0, 1.5, 0.75], [0.75, 0.0, 1.5]])
        half = np.full_like(values, 1 / np.sqrt(2))
        ahead = better(values, [True] * 3, values - half, values + half)
        wins = ahead.any(axis=2)
        assert (wins & ~wins.T).sum() == 3, "the example holds no circle"
        assert dominance(values, [True] * 3, values - half, values + half).sum() == 0

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_what_cannot_be_compared_is_refused(self, bad):
        with pytest.raises(DataError, match="leave out"):
            dominance(np.array([[1.0, bad], [0.0, 0.0]]), [True, True])

    def test_nobody_and_one(self):
        assert dominance(np.empty((0, 2)), [True, True]).shape == (0, 0)
        assert ranks(dominance(np.ones((1, 2)), [True, True])).tolist() == [1]


@pytest.mark.plain
class TestScale:
    def test_between_worst_and_best_of_the_column(self):
        table = np.array([[1.0, 10.0, 7.0], [2.0, 30.0, 7.0], [5.0, 20.0, 7.0]])
        scaled = normalized(table, [True, False, True])
        assert scaled[:, 0].tolist() == [0.0, 0.25, 1.0]
        assert scaled[:, 1].tolist() == [1.0, 0.0, 0.5]
        assert np.isnan(scaled[:, 2]).all()

    @given(tables, st.floats(0.1, 10), st.floats(-5, 5))
    def test_units_change_nothing(self, table, factor, shift):
        maximize = ways(table)
        assert np.allclose(
            normalized(table, maximize), normalized(table * factor + shift, maximize), atol=1e-9, equal_nan=True
        )


@pytest.mark.plain
class TestKnee:
    def test_a_right_angle_has_its_knee_in_the_corner(self):
        front = np.array([[0.0, 1.0], [0.5, 0.98], [0.95, 0.95], [0.98, 0.5], [1.0, 0.0]])
        assert knee(front, [True, True]) == 2
        assert knee(front * [100, -3], [True, False]) == 2

    def test_on_a_circle_it_is_the_middle(self):
        angle = np.linspace(0, np.pi / 2, 9)
        assert knee(np.column_stack([np.cos(angle), np.sin(angle)]), [True, True]) == 4

    def test_it_is_furthest_from_the_line_through_the_ends(self):
        rng = np.random.default_rng(1)
        x = np.sort(rng.random(12))
        front = np.column_stack([x, 1 - x**3])
        ends = front[[0, -1]]
        ends = (ends - front.min(0)) / np.ptp(front, axis=0)
        points = (front - front.min(0)) / np.ptp(front, axis=0)
        along = (ends[1] - ends[0]) / np.linalg.norm(ends[1] - ends[0])
        offset = points - ends[0]
        distance = np.abs(offset[:, 0] * along[1] - offset[:, 1] * along[0])
        assert knee(front, [True, True]) == int(distance.argmax())

    @pytest.mark.parametrize(
        "front",
        [
            [[0.0, 0.0]],
            [[0.0, 1.0], [1.0, 0.0]],
            [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]],
            [[0.0, 1.0], [0.1, 0.1], [1.0, 0.0]],
            [[0.0, 1.0], [0.5, 1.0], [1.0, 1.0]],
        ],
        ids=["one", "two", "straight", "hollow", "one objective only"],
    )
    def test_where_no_trade_off_stands_out_there_is_none(self, front):
        assert knee(np.array(front), [True, True]) is None


@pytest.mark.plain
class TestShortfall:
    def test_worse_on_its_training_data_than_the_best_on_validation_data(self):
        train, validation = np.array([0.05, 0.30, 1.9]), np.array([0.20, 0.35, 1.95])
        assert shortfall(train, validation).tolist() == pytest.approx([0, 0.1, 1.7])

    def test_a_regularised_model_with_a_high_training_loss_may_be_the_best(self):
        assert shortfall(np.array([1.5, 0.1]), np.array([1.0, 1.1])).tolist() == [0, 0]

    def test_dropout_raises_a_training_loss_no_further_than_the_validation_loss(self):
        assert shortfall(np.array([0.1, 3.0]), np.array([0.2, 0.5])).tolist() == pytest.approx([0, 0.3])

    def test_who_performs_as_well_as_the_best_is_not_under_fitted(self):
        train, validation = np.array([0.05, 0.30, 1.9]), np.array([0.20, 0.35, 1.95])
        ahead = np.array([[False, False, True], [False] * 3, [False] * 3])
        assert shortfall(train, validation, ahead=ahead).tolist() == pytest.approx([0, 0, 1.7])

    def test_within_uncertainty_nobody_is_under_fitted(self):
        train, validation = np.array([0.05, 0.30]), np.array([0.20, 0.35])
        assert shortfall(train, validation, np.array([0, 0.2])).tolist() == [0, 0]
        assert shortfall(train, validation, None, np.array([0.2, 0])).tolist() == [0, 0]

    def test_unknown_losses_accuse_nobody(self):
        assert shortfall(np.array([np.nan, 0.1, 2.0]), np.array([0.0, 0.2, 2.1])).tolist() == [0, 0, 1.8]
        assert shortfall(np.array([np.nan]), np.array([np.nan])).tolist() == [0]


@pytest.mark.plain
def test_without_moocore_the_hypervolume_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "moocore", None)
    with pytest.raises(MissingExtraError, match=r"keras-analyzer\[pareto\]"):
        hypervolume(np.eye(2), [True, True])


@pytest.mark.once
class TestAgainstMoocore:
    """In the leg that installs every extra."""

    @given(tables)
    def test_ranks_and_front_are_those_of_moocore_without_intervals(self, table):
        import moocore

        assume(table.shape[1] > 1)
        maximize = ways(table)
        dominates = dominance(table, maximize)
        assert ranks(dominates).tolist() == (moocore.pareto_rank(table, maximise=maximize) + 1).tolist()
        expected = moocore.is_nondominated(table, maximise=maximize, keep_weakly=True)
        assert front_of(dominates).tolist() == expected.tolist()

    @given(tables)
    def test_the_hypervolume_is_the_share_of_cells_of_a_grid(self, table):
        maximize = ways(table)
        scaled = normalized(table, maximize)
        scaled = scaled[:, ~np.isnan(scaled).any(axis=0)]
        sides = scaled.shape[1]
        edges = [np.unique(np.append(scaled[:, j], [-REFERENCE_MARGIN, 1.0])) for j in range(sides)]
        covered = total = 0.0
        for cell in product(*(pairwise(e) for e in edges)):
            volume = float(np.prod([b - a for a, b in cell]))
            total += volume
            covered += volume * any(all(row[j] >= cell[j][1] for j in range(sides)) for row in scaled)
        assert hypervolume(table, maximize) == pytest.approx(covered / total)

    def test_a_front_alone_dominates_no_more_than_all(self):
        table = np.array([[0.0, 1.0], [0.6, 0.6], [1.0, 0.0]])
        ends = hypervolume(table, [True, True], np.array([True, False, True]))
        assert ends == pytest.approx((2 * 1.1 * 0.1 - 0.1**2) / 1.1**2)
        assert hypervolume(table, [True, True]) > ends
