"""Fetch the emoji packages and draw every icon in every style: assets/nano/v1/sprites.npy.

    uv run --extra data python experiments/nano/sprites.py

Packages come through `npm pack` at pinned versions; their sha512 and the sha256 of the files read inside are
checked. Nothing of them is run. The result is uint8 [icons, styles, 160, 160, 4] (straight alpha, fitted into the
square): first the subjects in the order of domain.SUBJECTS, then every other icon that all sets have (no people,
flags or parts), which only the VAE and the judge see. Their labels are in sprites.json. Ink has no colour of its own:
its drawings are black. The styles kept from training are in unseen_STYLE.npz: sprites [n, 160, 160, 4] and subjects.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from domain import STYLES, SUBJECTS, UNSEEN_STYLES
from paths import PACKAGES, V1
from PIL import Image

SPRITE = 160  # px; scenes are 128 px, so a sprite is always shrunk

# package spec -> (sha512 of the tarball in npm's base64 form, {file inside: sha256})
PINNED = {
    "@iconify-json/noto@1.2.9": (
        "DQiuXENbun41ch+XPSV55H9FaWKpHTyz46YIKtSaKYD4fIDDzL1tR6H4np/T38jfrTAeI3rcKF0mqHYeZVAuaw==",
        {"icons.json": "9eac6ef4e7ec122b6f0e7ac281d61008afdbc720d0ce861e398b939daaa347c6"},
    ),
    "@iconify-json/fluent-emoji-flat@1.2.6": (
        "RY47RgPb47fYUiyrA64sIOL0+UU02s29sXpNBbIQRBUlPlfNFTKUmZDERGuxDs/7yNGWqQYvuaSYM1M4fRXlUw==",
        {"icons.json": "f5f4cf457c0db2ad5a2e42e033e02e0c87d10e43d0164cfffb3bb84914970a63"},
    ),
    "@iconify-json/fluent-emoji-high-contrast@1.2.6": (
        "esqhZPpkrF7sNX3NsLoh8KW64okEr/bzko7WNnFP+qTJGAqDPDYjp0925yxuivXy3HtVQB8xhIKu3+Nq1byX5w==",
        {"icons.json": "c522fb74fef65ccef67b38dfdbf0f3dcd4353339e4b8faec4aa45faf83ed4739"},
    ),
    "@iconify-json/noto-v1@1.2.5": (
        "/DsVMius69Q0fRS53z7QK1TROSuar606jiIx+laXtdsYGMXpf6LtHBx6CGfoo3UHHb/XpBsw+1L1x3eyPqMuVA==",
        {"icons.json": "ce70d8aa90345cf389875c3571ecd245bd943401822a0c5a0f62336bf8487333"},
    ),
    "@iconify-json/fxemoji@1.2.2": (
        "UAasRaxzFUKfIGSmLwnoarsssA4LX0VLLuEmplIqM6ZNQqIQRtav8tZ4H1neTlBreXuMQyAifr5jP4kn78DpiQ==",
        {"icons.json": "d8ef67b94a32d0abcd314d1c35db56178eaa8fa8ad71130e312f3460e307c2bf"},
    ),
    "@lobehub/fluent-emoji-3d@1.1.0": (
        "Wlq2lVStTnr8BDpIJ0pEnTKO4LuDxxqTEhTvRtD1DLRF0me7ogeRQjKoehDHXuVJ2Qaecgl5wRBv60lUAG3h7g==",
        {},
    ),
    "emojibase-data@17.0.0": (
        "Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
        {
            "en/data.json": "ed014f1049bd370c5794f815850156196ac382850f51c3e9f6a9e83553fb3f01",
            "en/messages.json": "6bffab078a0d90c4cca03bd3ff1045fdba33a77d31b1408b1cf1c414d7f1ab3c",
        },
    ),
}

# FxEmoji's own names where they are not the label without spaces.
FX_NAMES = {
    "cat": "cat",
    "dog": "dog",
    "rabbit": "bunny",
    "panda": "pandaface",
    "tiger": "tiger",
    "pig": "pig",
    "mouse": "mouse",
    "monkey": "monkeyface",
    "sheep": "sheep",
    "camel": "bactriancamel",
    "whale": "spurtingwhale",
    "dragon": "dragonhead",
    "pizza": "sliceofpizza",
    "eggplant": "aubergine",
    "corn": "earofmaize",
    "hot pepper": "chilipepper",
    "pine tree": "evergreen",
    "house": "housebuilding",
    "castle": "europeancastle",
    "train": "steamlocomotive",
    "gift": "present",
    "lightning bolt": "bolt",
    "globe": "americasglobe",
    "telephone": "blacktelephone",
    "magnifying glass": "leftmagnifyingglass",
    "scissors": "blackscissors",
    "hourglass": "hourglass",
    "diamond": "gem",
    "sun": "sunrays",
    "lock": "lock",
    "football": "americanfootball",
}


def fetch(spec: str) -> tarfile.TarFile:
    """The package's tarball, downloaded unless it is there, with every pinned hash checked."""
    integrity, inner = PINNED[spec]
    name, version = spec.rsplit("@", 1)
    path = PACKAGES / f"{name.lstrip('@').replace('/', '-')}-{version}.tgz"
    if not path.exists():
        PACKAGES.mkdir(parents=True, exist_ok=True)
        subprocess.run(["npm", "pack", "--silent", spec], cwd=PACKAGES, check=True)
    digest = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if digest != integrity:
        raise SystemExit(f"{path}: sha512 is {digest}, pinned is {integrity}. Delete the file and try again.")
    tarball = tarfile.open(path)  # noqa: SIM115 - the caller reads from it
    for member, expected in inner.items():
        found = hashlib.sha256(read(tarball, member)).hexdigest()
        if found != expected:
            raise SystemExit(f"{path}: sha256 of {member} is {found}, pinned is {expected}.")
    return tarball


def read(tarball: tarfile.TarFile, member: str) -> bytes:
    """The bytes of one file of an npm package."""
    file = tarball.extractfile(f"package/{member}")
    assert file is not None
    return file.read()


def code_of(name: str) -> str:
    """Hex code points as a key that all sets share: lower case, without variation selector and joiner."""
    return "-".join(part for part in name.lower().split("-") if part not in ("fe0f", "200d"))


def draw_svg(icons: dict, name: str) -> Image.Image:
    """One icon of an iconify set as RGBA."""
    import resvg_py

    icon = icons["icons"][name]
    left, top = icon.get("left", 0), icon.get("top", 0)
    width = icon.get("width", icons.get("width", 16))
    height = icon.get("height", icons.get("height", 16))
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}">{icon["body"]}</svg>'
    )
    png = resvg_py.svg_to_bytes(svg_string=svg, width=2 * SPRITE, height=2 * SPRITE, dpi=96)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def fit(image: Image.Image) -> np.ndarray:
    """Crop the drawing to what is visible and centre it in a SPRITE square: uint8 [SPRITE, SPRITE, 4]."""
    box = image.getchannel("A").point(lambda a: 255 if a > 8 else 0).getbbox()
    image = image.crop(box)
    scale = SPRITE / max(image.size)
    size = tuple(max(1, round(side * scale)) for side in image.size)
    # Shrinking with premultiplied alpha keeps the colour of transparent pixels out of the edges.
    image = image.convert("RGBa").resize(size, Image.Resampling.LANCZOS).convert("RGBA")
    square = Image.new("RGBA", (SPRITE, SPRITE))
    square.paste(image, ((SPRITE - size[0]) // 2, (SPRITE - size[1]) // 2))
    return np.asarray(square)


def labelled_codes() -> dict[str, str]:
    """emojibase label -> code, without people, flags and parts such as skin tones."""
    tarball = fetch("emojibase-data@17.0.0")
    groups = json.loads(read(tarball, "en/messages.json"))["groups"]
    left_out = {group["order"] for group in groups if group["key"] in ("people-body", "flags", "component")}
    entries = json.loads(read(tarball, "en/data.json"))
    return {e["label"]: code_of(e["hexcode"]) for e in entries if e.get("group", 99) not in left_out | {99}}


def drawers() -> dict[str, tuple[set[str], Callable[[str], Image.Image]]]:
    """For each source of STYLES: the codes it has, and a function that draws one."""
    result = {}
    for source, spec in (
        ("noto", "@iconify-json/noto@1.2.9"),
        ("flat", "@iconify-json/fluent-emoji-flat@1.2.6"),
        ("ink", "@iconify-json/fluent-emoji-high-contrast@1.2.6"),
    ):
        tarball = fetch(spec)
        icons = json.loads(read(tarball, "icons.json"))
        names = {code_of(code): name for code, name in json.loads(read(tarball, "chars.json")).items()}
        result[source] = set(names), lambda code, icons=icons, names=names: draw_svg(icons, names[code])
    tarball = fetch("@lobehub/fluent-emoji-3d@1.1.0")
    files = {code_of(Path(n).stem): n.removeprefix("package/") for n in tarball.getnames() if n.endswith(".webp")}
    result["3d"] = set(files), lambda code: Image.open(io.BytesIO(read(tarball, files[code]))).convert("RGBA")
    return result


def unseen_icons(source: str) -> dict[str, np.ndarray]:
    """subject -> sprite, of a set whose icons are known by name only: the label as a slug, or FX_NAMES."""
    spec = {"fx": "@iconify-json/fxemoji@1.2.2", "noto-v1": "@iconify-json/noto-v1@1.2.5"}[source]
    icons = json.loads(read(fetch(spec), "icons.json"))
    result = {}
    for subject, label in SUBJECTS.items():
        slug = re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")
        wanted = [FX_NAMES[subject]] if source == "fx" and subject in FX_NAMES else [slug, slug.replace("-", "")]
        found = [name for name in wanted if name in icons["icons"]]
        if found:
            result[subject] = fit(draw_svg(icons, found[0]))
    return result


def main() -> None:
    """Fetch, draw, save."""
    codes, sets = labelled_codes(), drawers()
    shared = [label for label, code in codes.items() if all(code in have for have, _ in sets.values())]
    labels = list(SUBJECTS.values()) + [label for label in shared if label not in SUBJECTS.values()]
    V1.mkdir(parents=True, exist_ok=True)
    shape = (len(labels), len(STYLES), SPRITE, SPRITE, 4)
    rgba = np.lib.format.open_memmap(V1 / "sprites.npy", "w+", np.uint8, shape)
    for i, label in enumerate(labels):
        for j, source in enumerate(STYLES.values()):
            rgba[i, j] = fit(sets[source][1](codes[label]))
    rgba.flush()
    (V1 / "sprites.json").write_text(json.dumps(labels, indent=1))
    unseen = {style: unseen_icons(source) for style, source in UNSEEN_STYLES.items()}
    for style, icons in unseen.items():
        np.savez(V1 / f"unseen_{style}.npz", subjects=list(icons), sprites=np.stack(list(icons.values())))
    columns = len(STYLES) + len(UNSEEN_STYLES)
    sheet = Image.new("RGB", (6 * columns * 64, -(-len(SUBJECTS) // 6) * 64), (235, 235, 235))
    for i, subject in enumerate(SUBJECTS):
        for j, sprite in enumerate([*rgba[i], *(icons.get(subject) for icons in unseen.values())]):
            if sprite is not None:
                small = Image.fromarray(sprite).resize((60, 60))
                sheet.paste(small, ((i % 6 * columns + j) * 64 + 2, i // 6 * 64 + 2), small)
    sheet.save(V1 / "sprites.png")
    print(f"{len(SUBJECTS)} subjects and {len(labels) - len(SUBJECTS)} other icons x {len(STYLES)} styles in {V1}")
    print({style: len(icons) for style, icons in unseen.items()})


if __name__ == "__main__":
    main()
