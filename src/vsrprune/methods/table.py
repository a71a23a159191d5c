"""All methods by name."""

from __future__ import annotations

from vsrprune.methods import assl, best, dense, distill, l1, lite, random, srp, ssl, ssl_distill, unstructured
from vsrprune.methods.method import Method

METHODS: dict[str, Method] = {
    module.METHOD.name: module.METHOD
    for module in (ssl, best, l1, assl, srp, random, lite, distill, ssl_distill, unstructured, dense)
}
