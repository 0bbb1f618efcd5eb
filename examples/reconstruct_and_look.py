"""Reconstruct a folder of photos, and read cameras, points and tracks from Python.

    python examples/reconstruct_and_look.py [PHOTOS] [--out OUT]

Without PHOTOS the bundled sample of twenty photos is used. Nothing is drawn: all results are numpy arrays.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

import unposed
from unposed.synthetic.sample import sample_folder


def main() -> None:
    """Reconstruct, then look at the largest model."""
    parser = argparse.ArgumentParser(description="Reconstruct a folder of photos and print what was found.")
    parser.add_argument("photos", nargs="?", type=Path, default=sample_folder())
    parser.add_argument("--out", type=Path, help="folder for the COLMAP model; by default nothing is written")
    parser.add_argument("--preset", default="fast")
    arguments = parser.parse_args()

    reconstruction = unposed.reconstruct(arguments.photos, arguments.out, preset=arguments.preset)
    print(f"{reconstruction.summary['registered']} of {reconstruction.summary['total']} photos registered")
    for name, facts in reconstruction.summary["photos"].items():
        if "reason" in facts:
            print(f"  {name} is in no model: {facts['reason']}")

    model = reconstruction.sparse.models[0]  # the largest; the others, if any, share no pair with it

    for camera in model.cameras:  # COLMAP's models and parameters: SIMPLE_RADIAL is f, cx, cy, k
        print(f"camera {camera.model} {camera.width} x {camera.height}:", np.round(camera.params, 3).tolist())

    # Poses map world coordinates to those of the camera: x_cam = R x_world + t. So a camera stands at -R^T t.
    rotation, translation = model.cam_from_world[:, :, :3], model.cam_from_world[:, :, 3]
    centre = -np.einsum("pji,pj->pi", rotation, translation)
    for index, position in zip(model.photos[:3], centre, strict=False):
        print(f"{reconstruction.photos[index].name} was taken at", np.round(position, 3).tolist())

    # A track is a run of equal obs_point: which key points, and so which photos, see a 3D point.
    length = np.bincount(model.obs_point, minlength=len(model.points))
    print(f"{len(model.points)} points, each seen in {length.mean():.1f} photos")
    print(f"mean reprojection error {model.error_px.mean():.2f} px")

    # The same model as an object of pycolmap, for whatever else reads one.
    print(reconstruction.to_pycolmap().summary())


if __name__ == "__main__":
    main()
