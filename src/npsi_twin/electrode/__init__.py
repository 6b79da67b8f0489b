"""The electrode as an analytic scene, and any slab of it as truth at any voxel size."""
