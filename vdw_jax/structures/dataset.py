"""The data set: crystals with their labels, as plain arrays."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from vdw_jax.structures.elements import SYMBOLS
from vdw_jax.structures.errors import DataError
from vdw_jax.structures.files import write_whole
from vdw_jax.structures.formula import formula_string
from vdw_jax.structures.names import resolve_names
from vdw_jax.types import NUM_ELEMENTS, SLAB, CrystalBatch, Periodicity

if TYPE_CHECKING:
    from pymatgen.core import Structure

_ARRAYS = ("ids", "atomic_numbers", "positions", "cell")


@dataclass(frozen=True, eq=False)
class CrystalDataset:
    """M crystals of at most N atoms; slabs keep to the convention of `vdw_jax.types.CrystalBatch`.

    Raises:
        DataError: shapes disagree, ids repeat, or padding is not behind the atoms.
    """

    ids: np.ndarray  # [M] str, unique
    atomic_numbers: np.ndarray  # [M, N] int16, 0 on padding, real atoms first
    positions: np.ndarray  # [M, N, 3] float32, Cartesian, Angstrom, wrapped along periods, 0 on padding
    cell: np.ndarray  # [M, 3, 3] float32, rows a, b, c, Angstrom; a slab's c is (0, 0, height + vacuum)
    periodicity: Periodicity
    scalars: dict[str, np.ndarray] = field(default_factory=dict)  # [M] real each, NaN where absent
    metadata: dict[str, np.ndarray] = field(default_factory=dict)  # [M] each, str or numbers

    def __post_init__(self) -> None:
        rows, width = self.atomic_numbers.shape
        shapes = {"ids": (rows,), "positions": (rows, width, 3), "cell": (rows, 3, 3)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise DataError(f"data set: {name} has shape {getattr(self, name).shape}, not {shape}")
        for name, values in [*self.scalars.items(), *self.metadata.items()]:
            if values.shape != (rows,):
                raise DataError(f"data set: {name} has shape {values.shape}, not {(rows,)}")
        if len(np.unique(self.ids)) != rows:
            values, counts = np.unique(self.ids, return_counts=True)
            raise DataError(f"data set: id {str(values[counts.argmax()])!r} occurs {counts.max()} times")
        real = self.atomic_numbers > 0
        if (real[:, 1:] & ~real[:, :-1]).any():
            raise DataError("data set: padding stands before an atom")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_atoms(self) -> np.ndarray:
        """Real atoms a crystal; [M] int64."""
        return (self.atomic_numbers > 0).sum(-1)

    @property
    def slab_height(self) -> np.ndarray:
        """Height of the highest real atom over the lowest along z; [M] float32, Angstrom."""
        real = self.atomic_numbers > 0
        z = self.positions[..., 2]
        return np.where(real, z, -np.inf).max(-1) - np.where(real, z, np.inf).min(-1)

    def composition(self) -> np.ndarray:
        """Atomic fractions; [M, 100] float32, rows add up to 1."""
        counts = np.zeros((len(self), NUM_ELEMENTS + 1), np.float32)
        np.add.at(counts, (np.arange(len(self))[:, None], self.atomic_numbers.astype(int)), 1.0)
        return counts[:, 1:] / counts[:, 1:].sum(-1, keepdims=True)

    def counts(self, index: int) -> dict[int, int]:
        """Atoms of each element in one crystal, by atomic number."""
        row = self.atomic_numbers[index]
        numbers, counts = np.unique(row[row > 0], return_counts=True)
        return {int(z): int(n) for z, n in zip(numbers, counts, strict=True)}

    def formula(self, index: int) -> str:
        """Reduced formula of one crystal, as `formula.formula_string` writes it."""
        return formula_string(self.counts(index))

    def to_pymatgen(self, index: int) -> Structure:
        """One crystal as a pymatgen structure; a slab keeps its vacuum as a period along c."""
        from pymatgen.core import Lattice, Structure

        row = self.atomic_numbers[index]
        real = row > 0
        return Structure(
            Lattice(self.cell[index].astype(float)),
            [SYMBOLS[z - 1] for z in row[real]],
            self.positions[index][real].astype(float),
            coords_are_cartesian=True,
        )

    def select(self, indices: np.ndarray | Sequence[int]) -> CrystalDataset:
        """The crystals at `indices` (integers or a mask), in that order."""
        chosen = np.asarray(indices)
        if chosen.size == 0:
            chosen = chosen.astype(int)
        return CrystalDataset(
            ids=self.ids[chosen],
            atomic_numbers=self.atomic_numbers[chosen],
            positions=self.positions[chosen],
            cell=self.cell[chosen],
            periodicity=self.periodicity,
            scalars={name: values[chosen] for name, values in self.scalars.items()},
            metadata={name: values[chosen] for name, values in self.metadata.items()},
        )

    def batch(self) -> CrystalBatch:
        """All of them as a padded batch, in arrays of the host."""
        numbers: Any = self.atomic_numbers.astype(np.int32)
        positions: Any = self.positions.astype(np.float32)
        cell: Any = self.cell.astype(np.float32)
        return CrystalBatch(numbers, positions, cell)

    def _flat(self) -> dict[str, np.ndarray]:
        flat = {name: getattr(self, name) for name in _ARRAYS}
        flat["periodicity"] = np.array(self.periodicity, bool)
        flat |= {f"scalars/{name}": values for name, values in self.scalars.items()}
        return flat | {f"metadata/{name}": values for name, values in self.metadata.items()}

    def content_hash(self) -> str:
        """sha256 over every array, its name, type and shape; hex. String widths do not matter."""
        digest = hashlib.sha256()
        for name, values in sorted(self._flat().items()):
            if values.dtype.kind == "U":
                content, kind = "\0".join(values.tolist()).encode(), "U"
            else:
                content = np.ascontiguousarray(values).tobytes()
                kind = values.dtype.newbyteorder("<").str
            digest.update(f"{name}|{kind}|{values.shape}|{len(content)}|".encode())
            digest.update(content)
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write an npz, whole or not at all."""
        write_whole(path, lambda file: np.savez_compressed(file, allow_pickle=False, **self._flat()))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CrystalDataset:
        """Read what `save` wrote.

        Raises:
            DataError: no such file, or no data set in it.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                flat = {name: archive[name] for name in archive.files}
            return cls(
                ids=flat["ids"],
                atomic_numbers=flat["atomic_numbers"],
                positions=flat["positions"],
                cell=flat["cell"],
                periodicity=_periodicity(flat["periodicity"]),
                scalars={k.removeprefix("scalars/"): v for k, v in flat.items() if k.startswith("scalars/")},
                metadata={
                    k.removeprefix("metadata/"): v for k, v in flat.items() if k.startswith("metadata/")
                },
            )
        except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"{os.fspath(path)}: not a saved data set: {error}") from error


def _periodicity(values: np.ndarray) -> Periodicity:
    a, b, c = (bool(value) for value in values)
    return (a, b, c)


def _absent(like: np.ndarray, rows: int) -> np.ndarray:
    """Filler where a data set has no such column: "", NaN, False or -1."""
    fill = {"U": "", "f": np.nan, "b": False}.get(like.dtype.kind, -1)
    return np.full(rows, fill, dtype=like.dtype)


def concatenate(datasets: Sequence[CrystalDataset]) -> CrystalDataset:
    """Join data sets of one periodicity; narrower ones are padded, absent scalars become NaN.

    Metadata that a data set lacks becomes "" (text), NaN (real), -1 (whole numbers) or False.

    Raises:
        DataError: nothing to join, mixed periodicity, or repeated ids.
    """
    if not datasets:
        raise DataError("data set: nothing to concatenate")
    if len({part.periodicity for part in datasets}) > 1:
        raise DataError("data set: cannot join slabs and bulk crystals")
    width = max(part.atomic_numbers.shape[1] for part in datasets)

    def padded(values: np.ndarray) -> np.ndarray:
        extra = [(0, 0)] * values.ndim
        extra[1] = (0, width - values.shape[1])
        return np.pad(values, extra)

    def joined(group: str) -> dict[str, np.ndarray]:
        samples: dict[str, np.ndarray] = {}
        for part in datasets:
            samples = getattr(part, group) | samples
        return {
            name: np.concatenate([getattr(d, group).get(name, _absent(like, len(d))) for d in datasets])
            for name, like in samples.items()
        }

    return CrystalDataset(
        ids=np.concatenate([part.ids for part in datasets]),
        atomic_numbers=np.concatenate([padded(part.atomic_numbers) for part in datasets]),
        positions=np.concatenate([padded(part.positions) for part in datasets]),
        cell=np.concatenate([part.cell for part in datasets]),
        periodicity=datasets[0].periodicity,
        scalars=joined("scalars"),
        metadata=joined("metadata"),
    )


def wrap_positions(positions: np.ndarray, cell: np.ndarray, periodicity: Periodicity) -> np.ndarray:
    """Move atoms into the cell along its periods only; [M, N, 3], [M, 3, 3] -> [M, N, 3], same units."""
    fractions = positions @ np.linalg.inv(cell)
    shift = np.where(np.array(periodicity), np.floor(fractions + 1e-6), 0.0)
    return positions - shift @ cell


def slab_dataset(
    ids: np.ndarray,
    atomic_numbers: np.ndarray,
    positions: np.ndarray,
    cell: np.ndarray,
    scalars: dict[str, np.ndarray],
    metadata: dict[str, np.ndarray],
) -> CrystalDataset:
    """Store unpadded slabs in the types and the wrapping that `CrystalDataset` promises."""
    return CrystalDataset(
        ids=ids,
        atomic_numbers=atomic_numbers.astype(np.int16),
        positions=wrap_positions(positions, cell, SLAB).astype(np.float32),
        cell=cell.astype(np.float32),
        periodicity=SLAB,
        scalars={name: values.astype(np.float32) for name, values in scalars.items()},
        metadata=metadata,
    )


def with_properties(dataset: CrystalDataset, properties: Sequence[str]) -> CrystalDataset:
    """Keep the named columns (as `names.resolve_names` takes them) as scalars; real metadata may be named too.

    Raises:
        DataError: there is no such column.
    """
    reals = {name: values for name, values in dataset.metadata.items() if values.dtype.kind == "f"}
    columns = reals | dataset.scalars
    names = resolve_names(properties, columns, "data set")
    return replace(dataset, scalars={name: columns[name] for name in names})
