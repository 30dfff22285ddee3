"""What a client says that it takes: the headers Accept and Accept-Encoding, with their weights."""

from collections.abc import Mapping, Sequence
from typing import TypeVar

_Offer = TypeVar("_Offer")


def weights(header: bytes) -> dict[bytes, float]:
    """What a header names, in lower case and its order, each with its weight (`q`; 1 where none is given).

    What has a weight that is no number is left out. Parameters other than `q` are ignored.
    """
    named: dict[bytes, float] = {}
    for entry in header.split(b","):
        name, *parameters = (part.strip().lower() for part in entry.split(b";"))
        given = [value for key, _, value in (part.partition(b"=") for part in parameters) if key == b"q"]
        try:
            weight = float(given[0]) if given else 1.0
        except ValueError:
            continue
        if name and 0.0 <= weight <= 1.0:
            named[name] = weight
    return named


def media_type(header: bytes, offers: Mapping[bytes, _Offer]) -> _Offer:
    """The offer that an Accept header prefers.

    Of equal weights the one that is named counts, the earlier one before the later, and a wildcard stands
    for the first offer. That is the answer too where nothing fits: a client that asks for what nobody has
    is better off with something.
    """
    first = next(iter(offers))
    best, chosen = (0.0, False), first
    for name, weight in weights(header).items():
        wanted = first if name in (b"*/*", b"application/*") else name
        rank = (weight, wanted == name)
        if wanted in offers and weight > 0 and rank > best:
            best, chosen = rank, wanted
    return offers[chosen]


def coding(header: bytes, offers: Sequence[bytes]) -> bytes | None:
    """The content coding that an Accept-Encoding header prefers; of equal weights the first offer.

    None: the body as it is.
    """
    named = weights(header)
    anything = named.get(b"*", 0.0)
    least = named.get(b"identity", 0.0)
    best = None
    for offer in reversed(offers):
        weight = named.get(offer, anything)
        if weight > 0 and weight >= least:
            best, least = offer, weight
    return best
