"""From counts to attenuation, blind to what was in the beam: corrections, rings, axis, filters, reconstruction."""
