from benchmarks.live_speed.training_steps import measure_steps


def test_training_steps_are_measured_for_every_quantizer():
    costs = measure_steps("digits", ("wrpn", "lsq"), rounds=2)
    assert [(cost.net, cost.quantizer, cost.batch_size) for cost in costs] == [
        ("digits", "wrpn", 64),
        ("digits", "lsq", 64),
    ]
    assert all(cost.ratio > 0 and cost.quantized_ms > 0 for cost in costs)
