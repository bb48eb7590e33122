"""Calls that everything from the inputs to the outputs goes through."""

from __future__ import annotations

from analyzer.relevance.tracing import Plan


def bottlenecks(plan: Plan) -> frozenset[str]:
    """Ids of calls without which no input reaches an output.

    Calls inside others are left out: what goes around them is not always seen. Where anything between layers had to be
    guessed, or the end of the model is no call, none is known.

    Args:
        plan: The opened model.
    """
    view = plan.view
    outer = {i: firing for i, firing in enumerate(view.firings) if firing.inside is None}
    last = {firing.place: i for i, firing in outer.items()}
    ends = {last.get(head.place, -1) if head.place is not None else -1 for head in view.heads}
    if -1 in ends or any(firing.inferred for firing in outer.values()):
        return frozenset()
    sources = {i: {_outermost(plan, s) for s in firing.sources} for i, firing in outer.items()}
    return frozenset(
        plan.ids[firing.place, firing.call]
        for i, firing in outer.items()
        if (firing.place, firing.call) in plan.ids and not _reached(sources, ends, without=i)
    )


def _outermost(plan: Plan, position: int) -> int:
    """The call of the model itself that a call happened in; inputs of the model, below zero, are their own."""
    while position >= 0 and (owner := plan.view.firings[position].inside) is not None:
        position = owner
    return position


def _reached(sources: dict[int, set[int]], ends: set[int], *, without: int) -> bool:
    """Whether an input reaches an end past one call."""
    pending, known = [end for end in ends if end != without], {without}
    while pending:
        position = pending.pop()
        if position < 0:
            return True
        if position not in known:
            known.add(position)
            pending.extend(sources[position])
    return False
