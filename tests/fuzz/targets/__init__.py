"""A module for each reader of bytes from outside; ``tests.fuzz.target.NAMES`` lists them."""
