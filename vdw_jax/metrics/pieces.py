"""Pieces that contacts join one after another, and along how many lattice directions each of them repeats."""

from __future__ import annotations

Vector = tuple[int, int]


class Pieces:
    """A union-find over the atoms of a slab that also keeps the loops through its periodic images.

    A piece is a molecule or lone atom while no chain of contacts leads from an atom to an image of itself, a
    chain where such images lie along one direction, and a sheet where they span both.
    """

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))
        self._offset: list[Vector] = [(0, 0)] * size  # cells from an atom to its parent
        self._atoms = [1] * size
        self._loops: list[list[Vector]] = [[] for _ in range(size)]  # independent ones, two at most
        self.count = size
        self.sheets = 0

    def root(self, atom: int) -> tuple[int, int, int]:
        """The atom that stands for the piece of `atom`, and the cells along a and b between the two."""
        along_a = along_b = 0
        while self._parent[atom] != atom:
            along_a += self._offset[atom][0]
            along_b += self._offset[atom][1]
            atom = self._parent[atom]
        return atom, along_a, along_b

    def is_sheet(self, root: int) -> bool:
        """Whether the piece that `root` stands for repeats along two directions."""
        return len(self._loops[root]) == 2

    def join(self, first: int, second: int, image: Vector) -> bool:
        """Joins two atoms, the second in the cell `image`; says whether pieces or their directions change."""
        root, first_a, first_b = self.root(first)
        other, second_a, second_b = self.root(second)
        step = (first_a - second_a - image[0], first_b - second_b - image[1])
        if root == other:
            return self._add_loop(root, step)
        if self._atoms[root] < self._atoms[other]:
            root, other = other, root
            step = (-step[0], -step[1])
        self.sheets -= self.is_sheet(root) and self.is_sheet(other)
        self._parent[other] = root
        self._offset[other] = step
        self._atoms[root] += self._atoms[other]
        self.count -= 1
        if self.is_sheet(other) and not self.is_sheet(root):
            self._loops[root] = self._loops[other]  # the piece was counted with the other's root
        else:
            for loop in self._loops[other]:
                self._add_loop(root, loop)
        return True

    def members(self) -> dict[int, list[int]]:
        """The atoms of each piece, under the atom that stands for it."""
        found: dict[int, list[int]] = {}
        for atom in range(len(self._parent)):
            found.setdefault(self.root(atom)[0], []).append(atom)
        return found

    def _add_loop(self, root: int, loop: Vector) -> bool:
        loops = self._loops[root]
        if loop == (0, 0) or len(loops) == 2:
            return False
        if loops and loops[0][0] * loop[1] == loops[0][1] * loop[0]:
            return False
        self._loops[root] = [*loops, loop]
        self.sheets += len(loops) == 1
        return True
