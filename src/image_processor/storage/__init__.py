"""Where bytes are kept: one narrow protocol, keys of one grammar, and the places behind them."""
