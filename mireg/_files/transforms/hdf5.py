"""HDF5 files: ITK's (.h5) and X5 (.x5), the draft of BIDS for transforms.

X5 is written and read here rather than by nitransforms, which agrees: it writes only
to files by name, not whole or not at all.
"""

from __future__ import annotations

import io
import json
from typing import Any, BinaryIO

import numpy as np

from ..._errors import InputError
from ..hdf5 import h5py, opened_hdf5
from .common import FloatArray, Images, grid
from .itk import AFFINE, ItkTransform, itk_numbers, ras_from_itk


def read_hdf5(file: BinaryIO, _images: Images) -> FloatArray:
    """Read the linear transform of an X5 file, or of ITK's."""
    try:
        with opened_hdf5(file) as opened:
            group = opened["TransformGroup"]
            nodes = [group[key] for key in sorted(group, key=int)]
            if opened.attrs.get("Format") == "X5":
                return _from_x5(nodes)
            return ras_from_itk([_from_itk_node(node) for node in nodes])
    except InputError:
        raise
    except Exception as error:  # h5py fails in many ways
        raise InputError(
            "neither an ITK nor an X5 transform, or damaged; export it again"
        ) from error


def write_itk_hdf5(moving_from_fixed: FloatArray, _images: Images) -> bytes:
    """Write ITK's affine transform as HDF5."""
    library = h5py()
    stream = io.BytesIO()
    with library.File(stream, "w") as opened:
        node = opened.create_group("TransformGroup/0")
        words = library.string_dtype("ascii")
        node.create_dataset("TransformType", data=[AFFINE], dtype=words)
        node.create_dataset("TransformParameters", data=itk_numbers(moving_from_fixed))
        node.create_dataset("TransformFixedParameters", data=np.zeros(3))
    return stream.getvalue()


def write_x5(moving_from_fixed: FloatArray, images: Images) -> bytes:
    """Write X5, of one (4, 4) or several; its domain is the grid of fixed, if known."""
    library = h5py()
    stream = io.BytesIO()
    with library.File(stream, "w") as opened:
        opened.attrs["Format"] = "X5"
        opened.attrs["Version"] = np.uint16(1)
        node = opened.create_group("TransformGroup/0")
        node.attrs["Type"] = "linear"
        node.attrs["SubType"] = "affine"
        node.attrs["Representation"] = "matrix"
        node.attrs["ArrayLength"] = len(moving_from_fixed.reshape(-1, 4, 4))
        node.attrs["Metadata"] = json.dumps({"WrittenBy": "mireg"})
        node.create_dataset("Transform", data=moving_from_fixed)
        kinds = np.array(["space", "space", "space", "vector"], dtype="S")
        node.create_dataset("DimensionKinds", data=kinds)
        if images.fixed is not None:
            fixed = grid(images.fixed)
            domain = node.create_group("Domain")
            domain.attrs["Coordinates"] = "cartesian"
            domain.create_dataset("Grid", data=np.uint8(1))
            domain.create_dataset("Size", data=np.array(fixed.shape))
            domain.create_dataset("Mapping", data=fixed.mm_from_ijk)
    return stream.getvalue()


def _from_x5(nodes: list[Any]) -> FloatArray:
    """Read the one linear transform of an X5 file, RAS+ mm."""
    if len(nodes) != 1:
        raise InputError(f"holds {len(nodes)} transforms; give a file with one")
    kind = nodes[0].attrs["Type"]
    if kind != "linear":
        raise InputError(f"holds a {kind} transform; give a linear one")
    matrix = nodes[0]["Transform"]
    if matrix.shape != (4, 4):
        raise InputError(
            f"holds a matrix of shape {matrix.shape}, not (4, 4); export it again"
        )
    return np.array(matrix, dtype=np.float64)


def _from_itk_node(node: Any) -> ItkTransform:
    """Read one of ITK's transforms; a composite itself has no numbers."""
    kind = node["TransformType"][0].decode("ascii")
    return ItkTransform(kind, _few(node, "Parameters"), _few(node, "FixedParameters"))


def _few(node: Any, label: str) -> FloatArray:
    """Read numbers of a linear transform; those of a field are too many."""
    for name in (f"Transform{label}", f"Tranform{label}"):  # so did ITK write it once
        if name in node and node[name].size < 100:
            return np.array(node[name], dtype=np.float64).reshape(-1)
    return np.empty(0)
