"""Line integrals through a slice and their transpose, by several independent roads with one contract."""
