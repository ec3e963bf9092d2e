"""The session that all contenders keep: 300 bytes of JSON."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Pizza:
    count: int = 0
    name: str = "Margherita with extra basil, please"
    tags: list[str] = field(default_factory=lambda: [f"topping {number}" for number in range(8)])
    stock: dict[str, int] = field(default_factory=lambda: {f"shop {number}": 10 * number for number in range(10)})
