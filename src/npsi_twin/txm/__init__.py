"""The transmission X-ray microscope: contrast, stage, zone-plate optics, beam and camera."""
