"""The daemon's side of every HTTP boundary."""
