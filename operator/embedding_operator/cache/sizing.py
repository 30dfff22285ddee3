"""How large the resource's own claim is, and why: pure decisions.

Where spec.cache.size is absent the size follows from what is to be fetched, which a Job asks the hub for
first (resolver). A claim that is there keeps its size, and nobody is asked again.
"""

from dataclasses import dataclass, replace
from fractions import Fraction

from embedding_operator import naming
from embedding_operator.api import Body
from embedding_operator.cache import prefetch
from embedding_operator.cache.prefetch import Resolved, State
from embedding_operator.facts import Resolution
from embedding_operator.fields import parse_quantity
from embedding_operator.observed import Observed, annotation

GIB = 1 << 30
ROOM = Fraction(5, 2)
"""Claim over files: the graph that is made of them, which is as large as they are, and what the file system
keeps for itself (ext4: 1.6 % of inodes, 5 % for root)."""

DEFAULT = "5Gi"
"""Where nobody says how large the files are."""


@dataclass(frozen=True)
class Size:
    """A claim's size as a quantity, and where it comes from. measured: not from the spec."""

    quantity: str
    reason: str
    measured: bool = False


def asked(seen: Observed) -> State:
    """Returns where the Job stands that asks how large the model is."""
    job = seen.jobs.get(naming.sizing_job(seen.em))
    return prefetch.state(job, seen.pods_of(job) if job else ())


def jobs(seen: Observed) -> set[str]:
    """Returns the names of the Jobs that the size of a claim stands on which is not there yet."""
    is_there = not seen.em.makes_claim or naming.claim(seen.em) in seen.claims
    return set() if is_there else {naming.sizing_job(seen.em)}


def size(seen: Observed) -> Size | None:
    """Returns the size that the resource's own claim is to have.

    None while the hub has to be asked, and where there is no claim of its own.
    """
    if not seen.em.makes_claim:
        return None
    given, claim = seen.em.cache.size, seen.claims.get(naming.claim(seen.em))
    if claim is not None:
        return _of_claim(claim, given)
    if given is not None:
        return Size(given, "spec.cache.size")
    if not seen.em.source.is_hub:
        return Size(DEFAULT, "the default, since nobody says how large the files are", measured=True)
    state = asked(seen)
    return _of_files(state.resolution) if isinstance(state, Resolved) else None


def with_size(seen: Observed, size: Size | None) -> Observed:
    """Returns the view with this size in the place of the spec's."""
    if size is None:
        return seen
    return replace(seen, em=replace(seen.em, cache=replace(seen.em.cache, size=size.quantity)))


def own(claim: Body) -> Size:
    """Returns the size that a claim has been given."""
    kept = annotation(claim, naming.SIZE_REASON_ANNOTATION)
    reason = kept or "the claim's own; spec.cache.size says none"
    return Size(_requested(claim), reason, measured=bool(kept))


def shown(seen: Observed, size: Size | None) -> Size | None:
    """Returns the size to tell: the claim's own, as long as it has not been given the wanted one."""
    claim = seen.claims.get(naming.claim(seen.em))
    if size is None or claim is None or parse_quantity(_requested(claim)) == parse_quantity(size.quantity):
        return size
    return Size(_requested(claim), f"the claim's own; {size.quantity} is wanted ({size.reason})")


def growing(claim: Body) -> str:
    """Returns what is to be said of a claim whose volume is smaller than it was asked to be, else nothing."""
    has = ((claim.get("status") or {}).get("capacity") or {}).get("storage")
    volume, wanted = parse_quantity(str(has)), parse_quantity(_requested(claim))
    if volume is None or wanted is None or volume >= wanted:
        return ""
    return (
        f"Claim {claim['metadata']['name']} is to grow to {_requested(claim)} and its volume has {has}; "
        "that is its storage provider's to do"
    )


def _requested(claim: Body) -> str:
    return str(claim["spec"]["resources"]["requests"]["storage"])


def _of_claim(claim: Body, given: str | None) -> Size:
    if given is None:
        return own(claim)
    current = _requested(claim)
    wanted, have = parse_quantity(given), parse_quantity(current)
    if wanted is not None and have is not None and wanted > have:
        return Size(given, "spec.cache.size")
    smaller = wanted != have
    return Size(current, "the claim's own: it is not made smaller" if smaller else "spec.cache.size")


def _of_files(resolution: Resolution) -> Size:
    if resolution.bytes is None:
        return Size(DEFAULT, "the default, since the hub does not say how large the files are", measured=True)
    count = max(1, -(-resolution.bytes * ROOM // GIB))
    megabytes = f"{resolution.bytes / 1e6:.1f} MB"
    return Size(
        f"{count}Gi",
        f"the files' {megabytes} times 2.5, for the graph that is made of them, in whole Gi",
        measured=True,
    )
