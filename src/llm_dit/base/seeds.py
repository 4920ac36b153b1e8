"""Seeds to the words that numpy's seeding takes. All 63 bits count; a seed below 2^32 is itself, as it always was."""

from __future__ import annotations

WORD = 1 << 32
WIDE = 0x77696465  # marks the words of a seed of more than 32 bits; no use, step or epoch has this number


def seed_words(seed: int, *uses: int) -> list[int]:
    """The entropy for one use of a seed, for numpy.random.SeedSequence and its bit generators.

    [seed, *uses] below 2^32. From there on [low word, *uses, WIDE, high word]: numpy would itself cut [2^32 + 5, 0]
    into the words 5, 1, 0, which are also those of [5, 1].
    """
    return [seed, *uses] if seed < WORD else [seed % WORD, *uses, WIDE, seed // WORD]
