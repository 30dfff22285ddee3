"""From a plan to a complete snapshot: the planned files, then those that only the graph itself names."""

from pathlib import PurePosixPath

from embedding_runtime.model.graph import read_facts
from embedding_runtime.registry.cache import Snapshot
from embedding_runtime.registry.hub import Hub, Plan, Report


def obtain(hub: Hub, plan: Plan, report: Report) -> Snapshot:
    """Fetch everything that `plan` needs; `report` hears (bytes had, bytes in all).

    External data is planned by its usual names; a graph that keeps tensors under other names gets those too.
    Raises as Hub.fetch and read_facts do.
    """
    snapshot = hub.fetch(plan, report)
    beside = PurePosixPath(plan.graph).parent
    named = [(beside / name).as_posix() for name in read_facts(snapshot.folder / plan.graph).external]
    further = plan.including(named)
    return snapshot if further == plan else hub.fetch(further, report)
