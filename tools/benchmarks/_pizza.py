"""The session that all contenders keep: 300 bytes of JSON, or more of the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

SMALL = 300
"""About so many bytes is a pizza as it comes."""
_PER_TOPPING = 15
_PER_SHOP = 19


@dataclass
class Pizza:
    count: int = 0
    name: str = "Margherita with extra basil, please"
    tags: list[str] = field(default_factory=lambda: [f"topping {number}" for number in range(8)])
    stock: dict[str, int] = field(default_factory=lambda: {f"shop {number}": 10 * number for number in range(10)})


def pizzas_of(size: int) -> Callable[[], Pizza]:
    """Makes pizzas of about so many bytes: half of it texts in a list, half numbers in a dictionary."""
    if size <= SMALL:
        return Pizza
    toppings, shops = size // 2 // _PER_TOPPING, size // 2 // _PER_SHOP

    def make() -> Pizza:
        tags = [f"topping {number:04}" for number in range(toppings)]
        return Pizza(tags=tags, stock={f"shop {number:05}": 10 * number for number in range(shops)})

    return make
