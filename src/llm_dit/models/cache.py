"""What is loaded stays loaded: one transformer, one VAE and one text encoder for the process.

Each part is keyed by the settings that define it, so a sweep loads it once, and a change of one part leaves
the others alone. Only the last of each kind is kept, because two of the real ones do not fit on a card.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Hashable
from dataclasses import astuple
from typing import Any

from llm_dit.base.clock import Clock
from llm_dit.config import Config, SamplerConfig
from llm_dit.encoders import load as encoders
from llm_dit.families.z_image import load
from llm_dit.weights import schedule
from llm_dit.weights.lora import Lora, fuse, load_lora, wanted_loras
from llm_dit.weights.place import Placement
from llm_dit.weights.schedule import Schedule


class PartCache:
    """kind -> (key, part). Thread-safe; building is serialised."""

    def __init__(self) -> None:
        self._parts: dict[str, tuple[Hashable, Any]] = {}
        self._lock = threading.RLock()

    def get(self, kind: str, key: Hashable, build: Callable[[], Any]) -> Any:
        """The part of this kind, built when the key differs from the last one."""
        with self._lock:
            known = self._parts.get(kind)
            if known and known[0] == key:
                return known[1]
            if known:  # let go of the old part before the new one takes memory
                del self._parts[kind], known
                gc.collect()
            part = build()
            self._parts[kind] = (key, part)
            return part

    def forget(self, *kinds: str) -> None:
        """Let go of the parts of these kinds, if there are any."""
        with self._lock:
            for kind in kinds:
                self._parts.pop(kind, None)
        gc.collect()

    def clear(self) -> None:
        """Forget every part."""
        with self._lock:
            self._parts.clear()
        gc.collect()


PARTS = PartCache()


class Models:
    """The parts of one config's model, loaded when first asked for and shared through a PartCache.

    Loading is timed as the clock's stage 'load', whichever stage asked for the part.
    """

    def __init__(self, config: Config, placement: Placement, parts: PartCache = PARTS, clock: Clock | None = None):
        self.model = config.model
        self.placement = placement
        self.attention_backend = config.hardware.attention_backend
        self.wanted_loras = wanted_loras(config)
        self.fused = config.lora_fuse and any(want.scale for want in self.wanted_loras)
        self.parts = parts
        self.clock = clock or Clock()

    def _get(self, kind: str, key: Hashable, build: Callable[[], Any]) -> Any:
        def timed() -> Any:
            with self.clock("load"):
                return build()

        return self.parts.get(kind, key, timed)

    def _key(self, *fields: Any) -> Hashable:
        return (self.model.path, self.model.revision, astuple(self.placement), *fields)

    @property
    def text_encoder_key(self) -> Hashable:
        """What the text encoder's output depends on, known before it is loaded."""
        own = self.model.text_encoder is None
        return (astuple(self.placement), self._key() if own else self.model.text_encoder)

    @property
    def text_encoder(self) -> Any:
        return self._get(
            "text_encoder", self.text_encoder_key, lambda: encoders.load_text_encoder(self.model, self.placement)
        )

    @property
    def _plain_transformer_key(self) -> Hashable:
        return self._key(self.model.transformer_file, self.attention_backend)

    @property
    def transformer(self) -> Any:
        """With lora_fuse the LoRAs are in its weights; else it has none, so that no LoRA ever loads it again."""
        key = self._plain_transformer_key
        if self.fused:
            key = (key, *((want.sha256, want.scale) for want in self.wanted_loras))
        return self._get("transformer", key, self._build_transformer)

    def _build_transformer(self) -> Any:
        transformer = load.load_transformer(self.model, self.placement, self.attention_backend)
        if self.fused:
            loras = [load_lora(want.path, transformer) for want in self.wanted_loras]
            fuse(transformer, [(lora, want.scale) for lora, want in zip(loras, self.wanted_loras, strict=True)])
        return transformer

    @property
    def loras(self) -> list[Lora]:
        """The files of the LoRAs asked for, fitted to the transformer; a change of scale does not read them again."""
        if not self.wanted_loras:
            return []
        key = (self._plain_transformer_key, *(want.sha256 for want in self.wanted_loras))
        return self._get("loras", key, lambda: [load_lora(want.path, self.transformer) for want in self.wanted_loras])

    @property
    def runtime_loras(self) -> list[tuple[Lora, float]]:
        """LoRAs to add as the transformer runs, with their scales; none when they are in its weights."""
        if self.fused:
            return []
        return [(lora, want.scale) for lora, want in zip(self.loras, self.wanted_loras, strict=True)]

    @property
    def vae(self) -> Any:
        return self._get("vae", self._key(), lambda: load.load_vae(self.model, self.placement))

    @property
    def shift(self) -> float:
        """The shift of the model's own schedule."""
        return (self._schedule or schedule.load_schedule(self.model)).static_shift()

    def check_schedule(self, sampler: SamplerConfig) -> None:
        """Raise ModelError where a run with these settings would ignore something of the model's own schedule."""
        if self._schedule is not None:
            self._schedule.refuse_ignored(sampler)

    @property
    def _schedule(self) -> Schedule | None:
        return self._get("schedule", (self.model.path, self.model.revision), lambda: schedule.find_schedule(self.model))
