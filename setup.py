"""Installs the rooms at the repository's root as sub-packages of `unposed`, sub-folders included."""

from setuptools import find_packages, setup

ROOMS = ("configs", "networks", "optim", "pipeline", "plugins", "report", "retrieval", "surface", "synthetic")
found = find_packages(include=[pattern for room in ROOMS for pattern in (room, f"{room}.*")])
links = [pattern for room in ROOMS for pattern in (f"unposed.{room}", f"unposed.{room}.*")]  # to the rooms above
setup(
    packages=[
        *find_packages(include=["unposed", "unposed.*"], exclude=links),
        *(f"unposed.{package}" for package in found),
    ],
    package_dir={"unposed": "unposed", **{f"unposed.{room}": room for room in ROOMS}},
)
