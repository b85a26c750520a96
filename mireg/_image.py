# nibabel and SimpleITK have no types:
# mypy: disallow-untyped-calls=False
"""One scan: its voxels and where they are."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from ._errors import InputError

FloatArray = npt.NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)

#: Which volume of a 4-D image to take: its number from 0, or one made of all.
VolumeChoice = int | Literal["mean", "median"]


#: No side of a voxel is shorter or longer, and no image is further from the origin.
#: What is beyond is a damaged header; sums of squares would lose the rest.
_SMALLEST_MM, _LARGEST_MM, _FURTHEST_MM = 1e-6, 1e4, 1e7


@dataclass(frozen=True, eq=False)
class Source:
    """What an `Image` was read from.

    Attributes
    ----------
    opened : nibabel image
        Header and type of the voxels; of a file, the voxels themselves stay there.
    volume : int, "mean", "median" or None
        Which volume was taken; None where there is only one.
    notes : tuple of str
        What was odd about it, and what was done.
    """

    opened: Any
    volume: VolumeChoice | None = None
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> str | None:
        """Path of the file, if it is one."""
        return self.opened.get_filename()


@dataclass(frozen=True, eq=False)
class WholeNumbers:
    """Intensities that are whole numbers of 16 bits or fewer, to be kept as such.

    In a large image that saves half of the memory; see `Image.voxels`.

    Attributes
    ----------
    numbers : (nx, ny, nz) ndarray of integers
        The intensities themselves, not what a scaling makes into them.
    """

    numbers: npt.NDArray[Any]


@dataclass(frozen=True, eq=False, repr=False)
class Image:
    """A volume of intensities in world space.

    ``np.asarray(image)`` is its voxels; a notebook shows it in three planes.

    Parameters
    ----------
    data : (nx, ny, nz) array_like
        Real intensities in nibabel's index order, kept as float32. NaN means
        "no data"; infinite values, and what a masked array masks, become NaN.
    mm_from_ijk : (4, 4) array_like
        Maps voxel indices (the centre of the first voxel is ``0, 0, 0``) to
        RAS+ millimetres, kept as float64. Any invertible affine is allowed:
        permuted or flipped axes, oblique, sheared.
    source : Source, optional
        What it was read from: what is written in its place takes over from there
        the type of the voxels and the rest of the header.

    Attributes
    ----------
    voxels : (nx, ny, nz) ndarray
        The same as `data`, or the whole numbers of a large file as it stores them,
        until `data` is first asked for: what can do with either takes these.

    Raises
    ------
    InputError
        If `data` is not a real 3-D array with at least one voxel, or
        `mm_from_ijk` is not a finite, invertible affine of shape (4, 4), or has
        voxels longer than 10 m or shorter than 1 nm.

    Examples
    --------
    >>> import numpy as np
    >>> image = Image(np.zeros((2, 3, 4)), np.diag([1.0, 1.0, 2.5, 1.0]))
    >>> image
    <Image 2 x 3 x 4, voxels of 1 x 1 x 2.5 mm, float32>
    >>> image.to_mm([1, 2, 3])
    array([1. , 2. , 7.5])
    """

    data: npt.NDArray[np.float32]
    mm_from_ijk: FloatArray
    source: Source | None = None
    voxels: npt.NDArray[Any] = field(init=False)

    def __post_init__(self) -> None:
        """Check both arrays once; later rooms trust them."""
        if isinstance(self.data, WholeNumbers):
            object.__setattr__(self, "voxels", self.data.numbers)
            object.__delattr__(self, "data")
        else:
            object.__setattr__(self, "data", _checked_data(self.data))
            object.__setattr__(self, "voxels", self.data)
        object.__setattr__(self, "mm_from_ijk", _checked_affine(self.mm_from_ijk))

    if not TYPE_CHECKING:  # to a type checker, `data` is what it is declared to be

        def __getattr__(self, name: str) -> Any:
            """Make float32 of whole numbers when `data` is first asked for."""
            whole = self.__dict__.get("voxels")
            if name != "data" or whole is None:
                raise AttributeError(f"an Image has no {name}")
            data = whole.astype(np.float32)
            object.__setattr__(self, "data", data)
            object.__setattr__(self, "voxels", data)
            return data

    def __repr__(self) -> str:
        """Say in one line what it is."""
        return f"<Image {', '.join(self._facts().values())}>"

    def _repr_html_(self) -> str:
        """Show three planes in a notebook."""
        # Slow to import, and only needed here.
        from ._picture import one_image  # noqa: PLC0415

        picture = base64.b64encode(one_image(self)).decode()
        cells = "".join(
            f"<tr><th>{label}</th><td>{html.escape(text)}</td></tr>"
            for label, text in self._facts().items()
        )
        return (
            f'<figure><img src="data:image/png;base64,{picture}" '
            'alt="Sagittal, coronal and axial plane">'
            f"<table>{cells}</table></figure>"
        )

    def _facts(self) -> dict[str, str]:
        """Say in words what it is, by label."""
        kept = np.dtype(np.float32)
        given = kept if self.source is None else self.source.opened.get_data_dtype()
        facts = {
            "shape": " x ".join(str(n) for n in self.shape),
            "voxels": "voxels of "
            + " x ".join(f"{size:.4g}" for size in self.voxel_size_mm)
            + " mm",
            "type": kept.name if given == kept else f"{kept.name} from {given.name}",
        }
        if self.source is not None and self.source.volume is not None:
            facts["volume"] = f"volume {self.source.volume}"
        if self.source is not None and self.source.path is not None:
            facts["file"] = Path(self.source.path).name
        return facts

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        """Return the voxels; numpy asks for them."""
        return np.array(self.data, dtype=dtype, copy=copy)

    def to_nibabel(self) -> Any:
        """Return a nibabel image of the same float32 voxels, in the same place.

        Returns
        -------
        nibabel.Nifti1Image
            It shares the memory of the voxels; NaN is where there is no data.

        Examples
        --------
        >>> image = Image(np.zeros((2, 3, 4)), np.diag([1.0, 1.0, 2.5, 1.0]))
        >>> image.to_nibabel().header.get_zooms()
        (np.float32(1.0), np.float32(1.0), np.float32(2.5))
        """
        import nibabel as nib  # noqa: PLC0415, most images stay here

        image = nib.Nifti1Image(self.data, self.mm_from_ijk)
        image.header.set_xyzt_units("mm")
        return image

    def to_sitk(self) -> Any:
        """Return a SimpleITK image of the same float32 voxels, in the same place.

        Returns
        -------
        SimpleITK.Image
            A copy; its origin and directions are in LPS+ mm, as that library's are.

        Raises
        ------
        ImportError
            If SimpleITK is not installed.
        """
        # An optional library.
        from SimpleITK import GetImageFromArray  # noqa: PLC0415

        lps_from_ijk = np.diag([-1.0, -1.0, 1.0, 1.0]) @ self.mm_from_ijk
        image = GetImageFromArray(self.data.T)
        image.SetSpacing(self.voxel_size_mm.tolist())
        image.SetDirection((lps_from_ijk[:3, :3] / self.voxel_size_mm).ravel().tolist())
        image.SetOrigin(lps_from_ijk[:3, 3].tolist())
        return image

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of voxels along each axis."""
        nx, ny, nz = self.voxels.shape
        return nx, ny, nz

    @property
    def voxel_size_mm(self) -> FloatArray:
        """Length in mm of one voxel step along each axis, shape (3,)."""
        return np.linalg.norm(self.mm_from_ijk[:3, :3], axis=0)

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel in cubic mm."""
        return abs(float(np.linalg.det(self.mm_from_ijk[:3, :3])))

    @property
    def centre_mm(self) -> FloatArray:
        """Centre of the grid in RAS+ mm, shape (3,)."""
        return self.to_mm((np.array(self.shape) - 1) / 2)

    @property
    def corners_mm(self) -> FloatArray:
        """Outermost voxel centres of the grid in RAS+ mm, shape (8, 3)."""
        unit = np.indices((2, 2, 2)).reshape(3, 8).T
        return self.to_mm(unit * (np.array(self.shape) - 1))

    def to_mm(self, ijk: npt.ArrayLike) -> FloatArray:
        """Map voxel indices, shape (..., 3), to RAS+ mm, shape (..., 3)."""
        return _mapped(self.mm_from_ijk, ijk)

    def to_ijk(self, points: npt.ArrayLike) -> FloatArray:
        """Map RAS+ mm, shape (..., 3), to voxel indices, shape (..., 3)."""
        return _mapped(np.linalg.inv(self.mm_from_ijk), points)


@dataclass(frozen=True, eq=False)
class Slabs:
    """A volume that is made some planes at a time, for what goes through it once.

    Attributes
    ----------
    grid : Image
        Where its voxels are; the intensities mean nothing.
    step : int
        Planes to make at once, along the third axis.
    make : callable
        Makes (nx, ny, n) intensities: the planes from the first number to before the
        second, the first one being a multiple of `step`.
    """

    grid: Image
    step: int
    make: Callable[[int, int], npt.NDArray[np.float32]]

    @classmethod
    def of(cls, volume: Image | Slabs) -> Slabs:
        """Take all planes of an image as one slab; slabs stay as they are."""
        if isinstance(volume, Slabs):
            return volume
        return cls(volume, volume.shape[2], lambda a, b: volume.data[:, :, a:b])

    def whole(self) -> Image:
        """Make the image at once."""
        return Image(self.make(0, self.grid.shape[2]), self.grid.mm_from_ijk)

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Make all planes, slab by slab."""
        count = self.grid.shape[2]
        for first in range(0, count, self.step):
            yield self.make(first, min(first + self.step, count))


def memory_order(data: npt.NDArray[Scalar]) -> npt.NDArray[np.intp]:
    """Return the axes of a volume in the order of its memory, slowest first."""
    return np.argsort(np.abs(data.strides), kind="stable")[::-1]


def flat_volume(
    data: npt.NDArray[Scalar],
) -> tuple[npt.NDArray[Scalar], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return a volume as flat memory, shape, and strides in elements.

    Kernels take volumes this way: one compiled loop serves every memory order.
    """
    if not (data.flags.c_contiguous or data.flags.f_contiguous):
        data = np.ascontiguousarray(data)
    strides = np.array(data.strides, dtype=np.int64) // data.itemsize
    return data.ravel(order="K"), np.array(data.shape, dtype=np.int64), strides


def checked_points(points: npt.ArrayLike) -> FloatArray:
    """Return points as float64, shape (..., 3), or say what is wrong."""
    try:
        array = np.asarray(points, dtype=np.float64)
    except (TypeError, ValueError) as error:  # words, or rows of different length
        raise InputError(
            f"points must be an array of numbers, (..., 3): {error}"
        ) from error
    if array.shape[-1:] != (3,):
        raise InputError(
            f"the points have shape {array.shape}, not (..., 3); give three numbers "
            "for each"
        )
    return array


def are_inside(image: Image, points: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Tell which points, RAS+ mm (..., 3), lie within the voxels of an image, (...)."""
    ijk = image.to_ijk(points)
    held = (ijk >= -0.5) & (ijk <= np.array(image.shape) - 0.5)
    return np.asarray(held.all(axis=-1))


def _mapped(matrix: npt.NDArray[np.floating], points: npt.ArrayLike) -> FloatArray:
    """Map points, shape (..., 3), by an affine."""
    # einsum, not @: for three columns BLAS wakes all its threads for nothing.
    turned = np.einsum("ij,...j->...i", matrix[:3, :3], checked_points(points))
    return turned + matrix[:3, 3]


def plain(voxels: npt.ArrayLike) -> npt.NDArray[Any]:
    """Return voxels of a type that image files have, NaN where they are masked."""
    try:
        array: npt.NDArray[Any] = np.asanyarray(voxels)
    except ValueError as error:
        raise InputError(
            "the rows of the array differ in length; give one with the same number of "
            "voxels in each"
        ) from error
    if isinstance(array, np.ma.MaskedArray) and array.dtype.kind in "fiub":
        floats = array.astype(np.result_type(array, np.float32))
        array = np.ma.filled(floats, np.nan)
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        with np.errstate(over="ignore"):
            array = array.astype("f4" if array.dtype.itemsize == 2 else "f8")
    return np.asarray(array)


def _checked_data(data: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Return the voxels as finite-or-NaN float32, or say what is wrong."""
    array = plain(data)
    if array.dtype.kind not in "fiub":
        raise InputError(
            f"the image holds {array.dtype} values, not real numbers; "
            "convert it to a grey-scale image (magnitude, or one channel) first"
        )
    if array.ndim != 3:
        raise InputError(
            f"the image has {array.ndim} dimensions {array.shape}, 3 are needed; "
            "choose one volume, or stack the slices into a volume"
        )
    if array.size == 0:
        raise InputError(
            f"the image is empty, its shape is {array.shape}; give one that has voxels"
        )
    if not any(array.strides):  # one number that is shown everywhere: a grid
        one = np.float32(array[0, 0, 0])
        one = one if np.isfinite(one) else np.float32(np.nan)
        return np.broadcast_to(one, array.shape)
    with np.errstate(over="ignore"):
        floats = array.astype(np.float32, copy=False)
    with np.errstate(invalid="ignore"):
        ends = floats.min(), floats.max()  # NaN if any voxel is
    if not np.isfinite(ends).all():
        floats = np.where(np.isfinite(floats), floats, np.float32(np.nan))
    return floats


def _checked_affine(affine: npt.ArrayLike) -> FloatArray:
    """Return the affine as float64 (4, 4), or say what is wrong."""
    matrix = np.array(affine, dtype=np.float64)
    if matrix.shape != (4, 4):
        raise InputError(
            f"the affine has shape {matrix.shape}, not (4, 4); give the matrix from "
            "voxel indices to RAS+ mm"
        )
    if not np.isfinite(matrix).all() or not np.array_equal(matrix[3], [0, 0, 0, 1]):
        raise InputError(
            "the affine is not finite with last row 0 0 0 1; repair what the "
            "header says of where the voxels are"
        )
    with np.errstate(over="ignore"):
        sizes = np.linalg.norm(matrix[:3, :3], axis=0)
    if (sizes == 0).any() or abs(np.linalg.det(matrix[:3, :3] / sizes)) < 1e-3:
        raise InputError(
            "the affine is singular: two voxel axes point the same way, or one "
            "nowhere; repair what the header says of where the voxels are"
        )
    odd = sizes[(sizes < _SMALLEST_MM) | (sizes > _LARGEST_MM)]
    if odd.size:
        raise InputError(
            f"a side of a voxel is {odd[0]:.3g} mm long; repair the voxel size in the "
            "header, or its unit"
        )
    if np.abs(matrix[:3, 3]).max() > _FURTHEST_MM:
        raise InputError(
            f"the first voxel is {np.abs(matrix[:3, 3]).max():.3g} mm from the origin; "
            "repair what the header says of where the voxels are"
        )
    return matrix
