"""Where the recipe keeps what it fetches and makes (all under assets/, ignored by git) and where nano ships."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ASSETS = ROOT / "assets" / "nano"
V1 = ASSETS / "v1"  # of the wider domain
PACKAGES = ASSETS / "npm"
SHIPPED = ROOT / "src" / "llm_dit" / "shipped" / "nano"
SIZE = 128  # px, side of every picture
