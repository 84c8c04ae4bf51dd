"""Do the paper's other claims hold? Its figures, and the runs behind them."""
