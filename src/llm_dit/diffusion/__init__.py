"""Pure functions: noise levels, samplers, noise, guidance, positions, high resolution."""
