"""Brings up kind clusters for the demo and the end-to-end tests, from whatever a machine has.

Python's standard library only: this runs before anything is installed.

    __main__   the command line: up, down, purge
    bringup    which steps there are, in which order
    steps      runs steps: progress, logs, failures, timings
    plan       decides from what a machine has; host finds out what it has
    engine     docker or podman; node_image, base_image, tools: what a cluster is made of
    kind       one cluster's life; audit: what its API server writes down
    images     with deploy and mirror: what goes into it
    state      where everything is kept; lock, guard, process: running commands safely
"""
