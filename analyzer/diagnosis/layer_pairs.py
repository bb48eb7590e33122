"""Which layer of one version of a model is which of the other: by name, by shape and by order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from difflib import SequenceMatcher

from analyzer.inspection.view import ModelView

_NUMBER = re.compile(r"_\d+$")
_SEGMENT = re.compile(r"(?P<name>.+?)(?P<suffix>(#\d+)?(@\d+)?)")


def aligned(old: Sequence[Sequence[Hashable]], new: Sequence[Sequence[Hashable]]) -> list[tuple[int, int]]:
    """Pairs of items of two lists.

    The first key is tried on all items, each further one on those that are left. Items whose key is found once on both
    sides belong together wherever they stand; the others are paired in order, as many as possible.

    Args:
        old: Keys of each item of one list, by falling strictness.
        new: Those of the other list, as many each.

    Returns:
        Positions in both lists, ascending in the first.
    """
    pairs: dict[int, int] = {}
    for level in range(max((len(keys) for keys in [*old, *new]), default=0)):
        for pair in (_pair_unique, _pair_in_order):
            left = [i for i in range(len(old)) if i not in pairs]
            right = [j for j in range(len(new)) if j not in set(pairs.values())]
            found = pair([old[i][level] for i in left], [new[j][level] for j in right])
            pairs |= {left[i]: right[j] for i, j in found}
    return sorted(pairs.items())


def stable_name(view: ModelView, layer_id: str) -> str:
    """The id of a layer or a call without the numbers that Keras gives to names of its own making.

    Keras counts per process, so that ``dense_3`` of one version can be ``dense_7`` of the other; a name that the user
    gave means the same in both.

    Args:
        view: The opened model.
        layer_id: Id of a layer, or of a call.
    """
    kinds = {(place.name, type(place).__name__.lower()) for place in [*view.places.values(), view.model]}
    kinds |= {(info.name, info.kind.lower()) for info in view.layers}

    def stable(segment: str) -> str:
        parts = _SEGMENT.fullmatch(segment)
        name, suffix = (parts["name"], parts["suffix"]) if parts else (segment, "")
        bare = _NUMBER.sub("", name)
        # A second layer of the same name has a number as well; a second call is another thing.
        return bare + re.sub(r"#\d+", "", suffix) if (name, bare.replace("_", "")) in kinds else segment

    return "/".join(stable(segment) for segment in layer_id.split("/"))


def _pair_unique(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[tuple[int, int]]:
    counts, others = Counter(old), Counter(new)
    place = {key: j for j, key in enumerate(new)}
    return [(i, place[key]) for i, key in enumerate(old) if counts[key] == 1 == others[key]]


def _pair_in_order(old: Sequence[Hashable], new: Sequence[Hashable]) -> list[tuple[int, int]]:
    blocks = SequenceMatcher(None, old, new, autojunk=False).get_matching_blocks()
    return [(block.a + k, block.b + k) for block in blocks for k in range(block.size)]
