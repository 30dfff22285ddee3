"""The way back: remove a cluster, or everything that any run on this machine has kept."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from e2e.cluster import plan
from e2e.cluster.engine import Engine, engine_steps, running
from e2e.cluster.host import Daemon, look
from e2e.cluster.images import OPERATOR, RUNTIME
from e2e.cluster.kind import Cluster
from e2e.cluster.process import Log, answer
from e2e.cluster.session import Session
from e2e.cluster.state import State
from e2e.cluster.steps import Step

OURS = (OPERATOR.repository, RUNTIME.repository, "embedding-operator/kind-node", "embedding-operator/base")
KEPT = ("docker", "lock", "logs")  # the daemons run with the first, this command with the others


def remove_cluster(session: Session) -> None:
    """Remove the session's cluster and what belongs to it alone."""
    engine = _engine(session)
    if engine is None:
        session.progress.say("there is no container engine here, so there is no cluster either")
        return
    session.runner.run([_removal(Cluster(session.state, engine))])


def remove_everything(session: Session) -> None:
    """Remove every cluster, image and cached file that runs of any checkout have left."""
    engine, root = _engine(session), session.state.root
    if engine is not None:
        folders = sorted((root / "clusters").glob("*"))
        names = {session.state.cluster, *(folder.name for folder in folders)}
        session.runner.run([_removal(Cluster(State(root, name), engine)) for name in sorted(names)])
        session.runner.run([Step("images", "remove the images", lambda log: _remove_images(engine, log))])
    freed = disk_used(root)
    for path in root.iterdir():
        if path.name not in KEPT:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    session.progress.say(
        f"removed {freed / plan.GIB:.1f} GiB below {root}; Go's own caches stay (go clean -cache -modcache)"
    )


def disk_used(folder: Path) -> int:
    """Return the bytes on disk below a folder; files with several names count once."""
    seen: dict[tuple[int, int], int] = {}
    for path, _, names in os.walk(folder):
        for name in names:
            status = Path(path, name).lstat()
            seen[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(seen.values())


def _engine(session: Session) -> Engine | None:
    """Return the engine, started where it was stopped: containers of a stopped one are still there."""
    host = look(session.state.root)
    if host.docker is Daemon.ABSENT and not host.podman:
        return None
    decided = plan.decide(host)
    session.runner.run(engine_steps(decided, session.state))
    return Engine(decided.engine, host.buildx) if running(decided.engine) else None


def _removal(cluster: Cluster) -> Step:
    def run(log: Log) -> None:
        cluster.delete(log)
        shutil.rmtree(cluster.state.folder, ignore_errors=True)

    name = cluster.state.cluster
    return Step(f"remove-{name}", f"remove cluster {name}", run)


def _remove_images(engine: Engine, log: Log) -> None:
    for repository in OURS:
        listed = answer([engine.program, "images", "--format", "{{.Repository}}:{{.Tag}}", repository])
        if names := listed.splitlines():
            log.run([engine.program, "rmi", "--force", *names])
        # stages of docker's old builder, which have no names; every stage bears the product's
        label = f"label=org.opencontainers.image.title={repository}"
        log.run([engine.program, "image", "prune", "--force", "--filter", label])
