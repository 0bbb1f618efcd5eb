"""Multi-view stereo: depth maps of photos with known cameras, and points that several of them agree on."""
