"""Networks that see many views at once: Depth Anything 3, VGGT and Pi3.

- config: the published architectures; checkpoint: published files into networks;
- vit: DINOv2 image encoder, and blocks with attention inside each view or over all;
- heads: DPT heads for depth, points, rays and sky;
- cameras: encodings of cameras as numbers, and the networks that read and write them;
- rays, local_points: cameras from predicted rays, focal lengths from predicted points;
- da3, vggt, pi3: the three networks, each from images of a group to a `GroupPrediction`;
- prediction: what all of them say of a group; images: photos as each of them reads them.
"""
