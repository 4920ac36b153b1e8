"""Z-Image's transformer: loading, velocity, attention, positions."""
