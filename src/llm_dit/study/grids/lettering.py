"""Text for pictures: wrapping, measuring and drawing labels in whatever writing they come.

The font inside Pillow is the first choice, so plain labels look the same on every machine; it knows ASCII only.
A label with other characters is set in the first font of the system that has them all. A character that no font has
is written as its \\u escape: ugly, but two labels never look the same when they are not.
"""

from __future__ import annotations

import math
import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache

from PIL import ImageDraw, ImageFont

LEADING = 1.28  # distance of two lines, in font sizes
COLOUR = tuple[int, int, int]

# File names that Pillow finds in the font folders of Linux, macOS and Windows: Latin, Greek, Cyrillic, Arabic and
# Hebrew first, then Chinese, Japanese and Korean, then single scripts and symbols.
_SYSTEM_FONTS = """
    DejaVuSans.ttf, NotoSans-Regular.ttf, LiberationSans-Regular.ttf, Arial.ttf, arial.ttf, segoeui.ttf,
    Arial Unicode.ttf, NotoSansCJK-Regular.ttc, NotoSansCJKsc-Regular.otf, NotoSansSC-Regular.otf, wqy-zenhei.ttc,
    PingFang.ttc, Hiragino Sans GB.ttc, msyh.ttc, YuGothM.ttc, malgun.ttf, AppleSDGothicNeo.ttc, NanumGothic.ttf,
    NotoSansArabic-Regular.ttf, NotoNaskhArabic-Regular.ttf, NotoSansHebrew-Regular.ttf,
    NotoSansDevanagari-Regular.ttf, NotoSansThai-Regular.ttf, Nirmala.ttf, seguisym.ttf, Symbola.ttf,
    NotoSansSymbols2-Regular.ttf, NotoEmoji-Regular.ttf
"""

# What to write where no font has the sign itself: hyphens and dashes, minus, times, arrow, ellipsis, quotes.
_PLAIN = dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2212", "-") | {"\u00d7": "x", "\u2192": "->", "\u2026": "..."}
_PLAIN |= dict.fromkeys("\u2018\u2019", "'") | dict.fromkeys("\u201c\u201d", '"') | {"\u2264": "<=", "\u2265": ">="}

# The pieces of a word too long for its line: an escape is never cut, and a cut after a mark reads best.
_ATOM = re.compile(r"\\x[0-9a-f]{2}|\\u[0-9a-f]{4}|\\U[0-9a-f]{8}|.", re.DOTALL)
_SOFT = re.compile(r"(?<=[._/\-,:;=&?|])")


@dataclass(frozen=True)
class Block:
    """Wrapped text. lines are ready to draw; faces tells the font of every character that is not the first one's."""

    lines: tuple[str, ...]
    size: int
    faces: tuple[tuple[str, int], ...] = ()

    @property
    def width(self) -> int:
        """Pixels of the longest line."""
        return max((math.ceil(_length(line, self.size, dict(self.faces))) for line in self.lines), default=0)

    @property
    def height(self) -> int:
        """Pixels from the top of the first line to the bottom of the last, with its descenders."""
        return len(self.lines) * line_height(self.size)

    def draw(self, draw: ImageDraw.ImageDraw, x: int, y: int, width: int, colour: COLOUR, align: str = "left") -> None:
        """Write the lines from (x, y) down; align in a box of that width: left, centre or right."""
        faces = dict(self.faces)
        for number, line in enumerate(self.lines):
            room = width - _length(line, self.size, faces)
            left = x + {"left": 0.0, "centre": room / 2, "right": room}[align]
            base = y + number * line_height(self.size) + round(self.size * 0.98)
            for piece, face in _runs(line, faces):
                font = _font(face, self.size)
                draw.text((round(left), base), piece, font=font, fill=colour, anchor="ls")
                left += _run_length(piece, self.size, face)


def line_height(size: int) -> int:
    """Pixels from one line to the next at a font size."""
    return round(size * LEADING)


@lru_cache(maxsize=8192)
def set_text(text: str, size: int, width: float = math.inf, max_lines: int = 1000) -> Block:
    """Text wrapped into lines of at most width pixels. More lines than max_lines lose their middle to an ellipsis.

    Words break only when one alone is too long for a line: after a mark if there is one, else anywhere.
    Chinese, Japanese and Korean break between any two characters. A line break in the text is kept.
    """
    text, faces = _readable(text)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        lines += _wrap(paragraph, size, width, faces)
    if len(lines) > max_lines:
        tail = lines[-(max_lines // 3) :] if max_lines >= 3 else []
        lines = [*lines[: max_lines - 1 - len(tail)], "...", *tail]
    return Block(tuple(lines), size, tuple(faces.items()))


@lru_cache(maxsize=8192)
def set_balanced(text: str, size: int, width: int, max_lines: int = 1000) -> Block:
    """As set_text, in as many lines of about equal length; for centred labels, where a last short line looks lost."""
    block = set_text(text, size, width, max_lines)
    narrow = width - size
    while narrow > width // 2 and narrow > widest_word(text, size):
        tighter = set_text(text, size, narrow, max_lines)
        if len(tighter.lines) > len(block.lines):
            break
        block, narrow = tighter, narrow - size
    return block


def widest_word(text: str, size: int) -> int:
    """Pixels of the longest word: in less room than this, wrapping has to cut it."""
    return max((set_text(word, size).width for word in text.split()), default=0)


def _wrap(text: str, size: int, width: float, faces: dict[str, int]) -> list[str]:
    lines, line, used = [], "", 0.0
    blank = _length(" ", size, faces)
    for word in text.split(" "):
        space = " " if line else ""
        for piece in _pieces(word):
            wide = _length(piece, size, faces)
            if line and used + blank * len(space) + wide <= width:
                line += space + piece
                used += blank * len(space) + wide
            else:
                lines += [line] if line else []
                *full, line = _break_word(piece, size, width, faces) if wide > width else [piece]
                lines += full
                used = _length(line, size, faces) if full else wide
            space = ""
    return [*lines, line]


def _pieces(word: str) -> list[str]:
    """Wide (East Asian) characters one by one, everything between them whole."""
    pieces = [""]
    for char in word:
        wide = unicodedata.east_asian_width(char) in "WF"
        if pieces[-1] and (wide or unicodedata.east_asian_width(pieces[-1][-1]) in "WF"):
            pieces.append("")
        pieces[-1] += char
    return pieces


def _break_word(word: str, size: int, width: float, faces: dict[str, int]) -> list[str]:
    lines = [""]
    for soft in _SOFT.split(word):
        if lines[-1] and _length(lines[-1] + soft, size, faces) > width:
            lines.append("")
        for atom in _ATOM.findall(soft):
            if lines[-1] and _length(lines[-1] + atom, size, faces) > width:
                lines.append("")
            lines[-1] += atom
    return lines


def _length(line: str, size: int, faces: dict[str, int]) -> float:
    if not faces:
        return _run_length(line, size)
    return sum(_run_length(piece, size, face) for piece, face in _runs(line, faces))


@lru_cache(maxsize=65536)
def _run_length(piece: str, size: int, face: int = 0) -> float:
    return _font(face, size).getlength(piece)


def _runs(line: str, faces: dict[str, int]) -> list[tuple[str, int]]:
    """A line cut where the font changes; a space belongs to what is before it."""
    runs: list[tuple[str, int]] = []
    for char in line:
        face = runs[-1][1] if char == " " and runs else faces.get(char, 0)
        if runs and runs[-1][1] == face:
            runs[-1] = (runs[-1][0] + char, face)
        else:
            runs.append((char, face))
    return runs


@lru_cache(maxsize=8192)
def _readable(text: str) -> tuple[str, dict[str, int]]:
    """The text in characters that can be drawn, and the font of each that is not the first font's.

    One font for the whole text if any has all of it: a word in two fonts looks broken.
    """
    out = ""
    for char in unicodedata.normalize("NFC", text).replace("\r\n", "\n"):
        kind = unicodedata.category(char)
        if kind == "Cf" or 0xFE00 <= ord(char) <= 0xFE0F:  # joiners and marks of direction have no shape of their own
            continue
        if kind == "Zs" or char == "\t":
            out += " "
        elif char == "\n" or (not kind.startswith("C") and _face_of(char) is not None):
            out += char
        elif char in _PLAIN:
            out += _PLAIN[char]
        else:
            code = ord(char)
            out += f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    chars = set(out) - {" ", "\n"}
    if all(_has(0, char) for char in chars):
        return out, {}
    for face in range(1, 1 + len(_system_fonts())):
        if all(_has(face, char) for char in chars):
            return out, dict.fromkeys(sorted(chars | {" "}), face)
    return out, {char: face for char in sorted(chars) if (face := _face_of(char))}


def _face_of(char: str) -> int | None:
    if _has(0, char):
        return 0
    return next((face for face in range(1, 1 + len(_system_fonts())) if _has(face, char)), None)


@lru_cache(maxsize=8192)
def _has(face: int, char: str) -> bool:
    """Whether the font draws the character as something else than its sign for a missing one."""
    font = _font(face, 32)
    drawn, missing = font.getmask(char), font.getmask("\uffff")
    return (drawn.size, bytes(drawn)) != (missing.size, bytes(missing))


@lru_cache
def _system_fonts() -> tuple[str, ...]:
    """The fonts of _SYSTEM_FONTS that this machine has. Looked for only when a label needs more than ASCII."""
    found = []
    for name in re.split(r",\s*", _SYSTEM_FONTS.strip()):
        try:
            ImageFont.truetype(name, 32)
        except OSError:
            continue
        found.append(name)
    return tuple(found)


@lru_cache(maxsize=256)
def _font(face: int, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_system_fonts()[face - 1], size) if face else ImageFont.load_default(size)
