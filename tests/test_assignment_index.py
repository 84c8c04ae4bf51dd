from itertools import product

import numpy as np

from releq_gym.assignment_index import AssignmentIndex


def test_assignments_are_counted_up_with_the_last_layer_fastest():
    index = AssignmentIndex((2, 4, 8), 3)
    assignments = list(product((2, 4, 8), repeat=3))
    assert index.count == len(assignments) == 27
    assert [index(assignment) for assignment in assignments] == list(range(27))
    assert index(np.array(assignments)).tolist() == list(range(27))
    assert index(np.array(assignments[5])) == 5


def test_deep_assignments_are_counted_modulo_two_to_the_64():
    index = AssignmentIndex((2, 3, 4, 5, 6, 7, 8), 40)
    rng = np.random.default_rng(0)
    for bitwidths in rng.integers(2, 9, size=(5, 40)):
        exact = sum((int(b) - 2) * 7 ** (39 - layer) for layer, b in enumerate(bitwidths))
        assert index(bitwidths) == int(index(bitwidths[None])[0]) == exact % 2**64
