"""What is looked at in a model: the calls of its layers, and what feeds them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from analyzer.inspection import inputs
from analyzer.inspection.selection import LayerCall, every_call, select_calls
from analyzer.inspection.view import ModelView

OUTPUT = "<output>"
"""Stands for what the model returns, and `INPUT` for what it is called with, where tensors are named."""
INPUT = "<input>"


@dataclass(frozen=True, kw_only=True, eq=False)
class Subject:
    """A model and the samples it is run on.

    Attributes:
        view: The opened model.
        arranged: Samples in the structure that the model is called with.
        leaves: Calls of layers that compute something and contain no others that do.
        extra: Operations and containers that feed these.
        order: All of them in order of execution.
        sources: By id of a call: ids of the calls and inputs (``"<input>[0]"``) that feed it; None where unknown.
    """

    view: ModelView
    arranged: Any
    leaves: tuple[LayerCall, ...]
    extra: tuple[LayerCall, ...]
    order: tuple[LayerCall, ...]
    sources: dict[str, tuple[str, ...] | None]

    @property
    def n(self) -> int:
        """Samples."""
        return inputs.count(self.arranged)

    def on(self, arranged: Any) -> Subject:
        """The same model on other samples.

        Args:
            arranged: The samples.
        """
        return dataclasses.replace(self, arranged=arranged)


def subject_of(view: ModelView, arranged: Any) -> Subject:
    """Which calls of a model are followed, and what feeds them.

    Args:
        view: The opened model.
        arranged: Samples in the structure that it is called with.
    """
    calls = every_call(view)
    leaves = select_calls(view)
    position = {(firing.place, firing.call): i for i, firing in enumerate(view.firings)}
    at = {i: calls[key] for key, i in position.items() if key in calls}
    sources: dict[str, tuple[str, ...] | None] = {}
    waiting = list(leaves)
    extra: dict[str, LayerCall] = {}
    for call in waiting:
        if call.id in sources:
            continue
        where = position.get((-1 if call.place is None else call.place, call.call))
        firing = None if where is None else view.firings[where]
        # A guessed source would give a factor that means nothing.
        if firing is None or firing.inferred or any(i >= 0 and i not in at for i in firing.sources):
            sources[call.id] = None
            continue
        sources[call.id] = tuple(f"{INPUT}[{-1 - i}]" if i < 0 else at[i].id for i in firing.sources)
        feeding = [at[i] for i in firing.sources if i >= 0]
        extra |= {one.id: one for one in feeding}
        waiting += feeding
    own = {call.id for call in leaves}
    executed = [call for _, call in sorted(at.items(), key=lambda item: item[0])]
    followed = [call for call in executed if call.id in extra or call.id in own]
    return Subject(
        view=view,
        arranged=arranged,
        leaves=leaves,
        extra=tuple(call for call in followed if call.id not in own),
        order=(*followed, *(call for call in leaves if call.id not in {one.id for one in followed})),
        sources=sources,
    )
