"""For users' tests and ours: what shows that a store or a machine keeps its promises."""
