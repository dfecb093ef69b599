"""What a router costs: one load, one pair of mock instances, several routers in turn."""
