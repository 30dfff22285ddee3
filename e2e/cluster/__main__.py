"""Command line: `python3 -m e2e.cluster up | down | purge`. Progress: stderr; result: stdout, JSON."""

from __future__ import annotations

import argparse
import json
import sys

from e2e.cluster import takedown
from e2e.cluster.bringup import BringUp
from e2e.cluster.session import Session, conduct
from e2e.cluster.state import State, cache_root


def up(session: Session) -> None:
    """Bring the cluster up and print how to use it."""
    ready = BringUp(session).run()
    session.summary()
    print(json.dumps(ready.as_json()), flush=True)


COMMANDS = {"up": up, "down": takedown.remove_cluster, "purge": takedown.remove_everything}


def main() -> int:
    """Run the command that was asked for."""
    parser = argparse.ArgumentParser(prog="python3 -m e2e.cluster", description=__doc__)
    parser.add_argument(
        "command", choices=[*COMMANDS], help="purge: down for every cluster, and remove the caches"
    )
    parser.add_argument("--name", default="embedding-operator", help="name of the kind cluster")
    options = parser.parse_args()
    purpose = f"{parser.prog} {options.command} --name {options.name}"
    return conduct(State(cache_root(), options.name), purpose, COMMANDS[options.command])


if __name__ == "__main__":
    sys.exit(main())
