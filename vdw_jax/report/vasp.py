"""Inputs of VASP for relaxing candidates as the paper does, through pymatgen's input sets."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pymatgen.io.vasp.inputs import Kpoints, Poscar
from pymatgen.io.vasp.sets import MPRelaxSet, VaspInputSet

from vdw_jax.report.crystal import Crystal
from vdw_jax.report.layout import FLOW_TITLE, VASP_README
from vdw_jax.structures.ids import check_ids

KPOINT_LENGTH_ANGSTROM = 36.0
"""k-points along a vector times its length, at least; 9 or 10 along a lattice constant of 4 Angstrom."""

README = """\
Relaxations by VASP, one folder a candidate, named by its id: PBE, 550 eV, 1e-6 eV, 0.05 eV/Angstrom and D3 with zero
damping (IVDW = 11), as in Gao et al., Sci. Rep. 2025. The paper leaves the rest open; here k-points are Gamma-centred,
36 Angstrom a vector at least and one along the vacuum, and slabs have a dipole correction along c.

POTCAR: VASP's potentials may not be passed on, so each folder has POTCAR.spec, their names, in the order of POSCAR.
With a licence of your own, and PMG_VASP_PSP_DIR set in ~/.config/.pmgrc.yaml (`pmg config --help`), in each folder

    pmg potcar --symbols $(cat POTCAR.spec) --functional PBE_54

Cell: slabs relax a and b, with c and the vacuum held by LATTICE_CONSTRAINTS, which relaxations heed from VASP 6.5 on;
with an older version take ISIF = 2 and leave the tag out, or the vacuum will shrink.
"""


@dataclass
class RelaxSet(VaspInputSet):
    """A relaxation with the settings of the paper's DFT section; of a slab in its vacuum unless `slab` is off."""

    slab: bool = True

    CONFIG = {
        "INCAR": {
            "ALGO": "Normal",
            "EDIFF": 1e-6,
            "EDIFFG": -0.05,
            "ENCUT": 550,
            "GGA": "PE",
            "IBRION": 2,
            "ISIF": 3,
            "ISMEAR": 0,
            "ISPIN": 1,
            "IVDW": 11,
            "LASPH": True,
            "LCHARG": False,
            "LREAL": False,
            "LWAVE": False,
            "NELM": 200,
            "NSW": 200,
            "PREC": "Accurate",
            "SIGMA": 0.05,
        },
        "KPOINTS": {},
        "POTCAR": MPRelaxSet.CONFIG["POTCAR"],
        "POTCAR_FUNCTIONAL": "PBE_54",
    }

    @property
    def incar_updates(self) -> dict[str, Any]:
        """For slabs: a dipole correction along c about the slab's middle, and c held."""
        if not self.slab or self.structure is None:
            return {}
        heights = np.asarray(self.structure.frac_coords)[:, 2]
        middle = round(float(heights.min() + heights.max()) / 2, 4)
        return {"IDIPOL": 3, "LDIPOL": True, "DIPOL": [0.5, 0.5, middle], "LATTICE_CONSTRAINTS": [True, True, False]}

    @property
    def kpoints_updates(self) -> Kpoints:  # type: ignore[override]
        """A Gamma-centred grid from the lengths of the cell; one k-point along a slab's c."""
        assert self.structure is not None
        counts = [math.ceil(KPOINT_LENGTH_ANGSTROM / length - 1e-6) for length in self.structure.lattice.abc]
        a, b, c = counts
        return Kpoints.gamma_automatic((a, b, 1 if self.slab else c))


def write_vasp(directory: Path, crystals: Sequence[Crystal]) -> None:
    """A folder a candidate with INCAR, KPOINTS, POSCAR and POTCAR.spec, and a README.

    Raises:
      ValueError: an id that cannot be the name of a folder, or an element that has no potential in the set; the
        message names the candidate.
    """
    check_ids(crystal.id for crystal in crystals)
    for crystal in crystals:
        folder = directory / crystal.id
        folder.mkdir(parents=True)
        inputs = RelaxSet(structure=crystal.to_pymatgen(), slab=crystal.is_slab)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                symbols, incar, kpoints = inputs.potcar_symbols, inputs.incar, inputs.kpoints
        except KeyError as error:
            raise ValueError(f"{crystal.id}: no VASP potential for {error}") from None
        (folder / "POTCAR.spec").write_text("\n".join(symbols) + "\n", encoding="utf-8")
        incar.write_file(folder / "INCAR")
        assert kpoints is not None
        kpoints.write_file(folder / "KPOINTS")
        write_poscar(folder / "POSCAR", crystal)
    (directory / VASP_README).write_text(README, encoding="utf-8")


def write_poscar(path: Path, crystal: Crystal) -> None:
    """A POSCAR with the id in its first line, atoms grouped by element, slabs with their vacuum."""
    structure = crystal.to_pymatgen().get_sorted_structure()
    Poscar(structure, comment=f"{crystal.id} {crystal.formula}").write_file(path, significant_figures=12)


def relax_flow(crystals: Sequence[Crystal]) -> Any:
    """The same relaxations as one jobflow Flow of atomate2 jobs, each named by its candidate's id.

    Raises:
      ImportError: atomate2 is not installed (extra `workflows`).
    """
    from atomate2.vasp.jobs.core import RelaxMaker
    from jobflow import Flow

    jobs = []
    for crystal in crystals:
        maker = RelaxMaker(name=crystal.id, input_set_generator=RelaxSet(slab=crystal.is_slab))
        job = maker.make(crystal.to_pymatgen())
        job.metadata = {"id": crystal.id}
        jobs.append(job)
    return Flow(jobs, name=FLOW_TITLE)
