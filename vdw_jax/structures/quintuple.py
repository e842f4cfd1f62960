"""The III-VI family: bilayers with at least one quintuple X-M-X-M-X of the alpha-In2Se3 kind.

There are 3^5 = 243 quintuple sequences. Sites A B B C A are not their own mirror image, so that, unlike a
quadruple, every sequence has two orientations (tetrahedral M below or above) that no flip turns into one
another with the sequence kept: 486 oriented layers, 243 up to flipping. The draw uses both, so it is closed
under flipping.

Drawn without repetition up to the stack flip, each stack with one of the six stackings:

* for each of the 18 formulas MM'XX'2 (GaInSSe2 and its relatives), 125 quintuple bilayers with that formula in
  both layers: 2,250, a third of the quintuple bilayers, where a uniform draw would hold about 1.2 %;
* 4,750 quintuple bilayers from all 118,341 pairs;
* 3,000 mixed stacks of a quadruple and a quintuple.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np

from vdw_jax.structures import j2dh8
from vdw_jax.structures.dataset import CrystalDataset, concatenate, slab_dataset
from vdw_jax.structures.elements import CHALCOGENS, METALS
from vdw_jax.structures.layers import layer_name
from vdw_jax.structures.splits import with_parts
from vdw_jax.structures.stacking import LayerRows, stack

NUM_SEQUENCES = 243
STACKS_PER_FORMULA = 125
NUM_ANY_QUINTUPLE = 4750
NUM_MIXED = 3000
DRAW_SEED = 20240717


def quintuple_layers() -> tuple[np.ndarray, np.ndarray]:
    """The 486 oriented quintuples: species bottom to top [486, 5], and polarity [486] (+1 first, then -1).

    Polarity +1 has the tetrahedral M below, -1 above.
    """
    sites = (CHALCOGENS, METALS, CHALCOGENS, METALS, CHALCOGENS)
    species = np.array(list(itertools.product(*sites)))
    assert len(species) == NUM_SEQUENCES
    return np.concatenate([species, species]), np.repeat([1, -1], NUM_SEQUENCES)


def all_layers() -> tuple[list[tuple[int, ...]], np.ndarray, np.ndarray]:
    """Quadruples (rows 0..80), then quintuples: species, polarity [567], row of the flipped self [567]."""
    quadruples = j2dh8.oriented_layers()
    quintuples, polarity = quintuple_layers()
    reversed_sequence = j2dh8.flip_table(quintuples[:NUM_SEQUENCES])
    offset = len(quadruples)
    up = offset + NUM_SEQUENCES + reversed_sequence
    flipped = np.concatenate([j2dh8.flip_table(quadruples), up, offset + reversed_sequence])
    species = [tuple(row) for row in quadruples.tolist()] + [tuple(row) for row in quintuples.tolist()]
    return species, np.concatenate([np.zeros(offset, int), polarity]), flipped


def related_formulas(species: list[tuple[int, ...]]) -> dict[tuple[int, ...], list[int]]:
    """Rows of the layers of each of the 18 formulas MM'XX'2, by sorted atomic numbers; 12 layers each."""
    found: dict[tuple[int, ...], list[int]] = {}
    for row, layer in enumerate(species):
        if len(layer) == 5 and layer[1] != layer[3] and len({layer[0], layer[2], layer[4]}) == 2:
            found.setdefault(tuple(sorted(layer)), []).append(row)
    return dict(sorted(found.items()))


def draw_stacks(seed: int = DRAW_SEED) -> list[j2dh8.Stack]:
    """Draw the 10,000 stacks; rows refer to 81 quadruples followed by 486 quintuples."""
    species, _, flipped = all_layers()
    random = np.random.RandomState(seed)
    first_quintuple, seen = 81, set[j2dh8.Stack]()

    def fresh(count: int, choose: Callable[[], tuple[int, int]]) -> Iterator[j2dh8.Stack]:
        while count:
            bottom, top = choose()
            drawn = (bottom, top, int(random.randint(3)), 60 * int(random.randint(2)))
            key = min(drawn, j2dh8.flip_stack(drawn, flipped))
            if key not in seen:
                seen.add(key)
                count -= 1
                yield key

    def pair_of(rows: list[int]) -> Callable[[], tuple[int, int]]:
        return lambda: (rows[random.randint(len(rows))], rows[random.randint(len(rows))])

    def mixed() -> tuple[int, int]:
        return int(random.randint(first_quintuple)), int(random.randint(first_quintuple, len(species)))

    formulas = related_formulas(species)
    assert len(formulas) == 18
    stacks: list[j2dh8.Stack] = []
    for rows in formulas.values():
        stacks += fresh(STACKS_PER_FORMULA, pair_of(rows))
    stacks += fresh(NUM_ANY_QUINTUPLE, pair_of(list(range(first_quintuple, len(species)))))
    # A mixed stack with the quintuple below is the flip of one with it above; half of them are shown so.
    for drawn in fresh(NUM_MIXED, mixed):
        stacks.append(j2dh8.flip_stack(drawn, flipped) if random.randint(2) else drawn)
    return stacks


def build_iii_vi(seed: int = DRAW_SEED) -> CrystalDataset:
    """The 10,000 cells of the family by rule, where relaxation starts: 7,000 of 10 atoms, then 3,000 of 9.

    Args:
        seed: of the draw; the default is the data set that results refer to.

    Returns:
        As `j2dh8.build_j2dh8`, with ids "iiivi-00000" and up, `pair` numbered on from J2DH-8's 3,321, no
        duplicates, and metadata `bottom_polarity` and `top_polarity` (0 for quadruples).
    """
    species, polarity, flipped = all_layers()
    names = np.array([layer_name(layer) for layer in species])
    table = np.array(draw_stacks(seed))
    keys = [min((a, b), (int(flipped[b]), int(flipped[a]))) for a, b in table[:, :2].tolist()]
    numbering = {key: j2dh8.NUM_PAIRS + place for place, key in enumerate(dict.fromkeys(keys))}
    pair = np.array([numbering[key] for key in keys], np.int32)
    sizes = np.array([len(layer) for layer in species])
    parts = []
    for shape in ((5, 5), (4, 5), (5, 4)):
        rows = np.flatnonzero((sizes[table[:, 0]] == shape[0]) & (sizes[table[:, 1]] == shape[1]))
        bottom, top, registry, rotation = table[rows].T
        layers = [
            LayerRows(np.array([species[i] for i in which]), polarity[which]) for which in (bottom, top)
        ]
        bilayers = stack(layers[0], layers[1], registry, rotation == 60)
        metadata = {
            "bottom_layer": names[bottom],
            "top_layer": names[top],
            "registry": registry.astype(np.int8),
            "rotation_degrees": rotation.astype(np.int16),
            "pair": pair[rows],
            "duplicate_of": np.full(len(rows), "", dtype="<U11"),
            "bottom_polarity": polarity[bottom].astype(np.int8),
            "top_polarity": polarity[top].astype(np.int8),
            **j2dh8.start_metadata(bilayers),
        }
        ids = np.array([f"iiivi-{row:05d}" for row in rows])
        numbers, positions, cell = bilayers.atomic_numbers, bilayers.positions, bilayers.cell
        parts.append(slab_dataset(ids, numbers, positions, cell, {}, metadata))
    joined = concatenate(parts)
    return with_parts(joined.select(np.argsort(joined.ids)))
