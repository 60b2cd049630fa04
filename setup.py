"""The package is described in pyproject.toml; its parts that lie beside it in the repository are added here."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["lbam_fast*"]), "lbam_fast.kernels"], package_dir={"lbam_fast.kernels": "kernels"})
