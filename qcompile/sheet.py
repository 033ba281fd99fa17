"""One picture of a comparison: every prompt's pair side by side, with what each arm took and weighs."""

import math

from PIL import Image, ImageDraw, ImageFont

from qcompile.compare import Arm, Comparison

PANEL = 240
"""Pixels of the longer side of a painted image on the sheet."""
GAP = 6
MARGIN = 24
COLUMN_GAP = 32
TITLE_SIZE, TEXT_SIZE = 22, 15
INK, FAINT, PAPER = (28, 28, 30), (110, 110, 115), (250, 250, 248)
ACCENTS = {"original": (60, 90, 150), "artifact": (190, 85, 30)}


def draw(comparison: Comparison) -> Image.Image:
    """Draw a comparison as an RGB image.

    Small images are enlarged by a whole number, so that their pixels stay what they are; large ones are made smaller.
    """
    title = f"{comparison.model}: original and artifact"
    panels = [[_panel(image) for image in arm.images] for arm in (comparison.original, comparison.artifact)]
    width, height = panels[0][0].size
    columns = 1 if len(comparison.prompts) < 3 else 2
    text = ImageFont.load_default(size=TEXT_SIZE)
    pair_width = 2 * width + GAP
    captions = [_wrap(prompt, text, pair_width) for prompt in comparison.prompts]
    line = int(TEXT_SIZE * 1.45)
    caption_height = max(len(lines) for lines in captions) * line
    cell = (pair_width + COLUMN_GAP, height + line + caption_height + MARGIN)
    head = MARGIN + int(TITLE_SIZE * 1.8) + 2 * line + MARGIN // 2
    rows = math.ceil(len(captions) / columns)
    header = [_describe(arm) for arm in (comparison.original, comparison.artifact)]
    needed = max(int(text.getlength(words)) for words in header) + 2 * TEXT_SIZE
    size = (max(2 * MARGIN + columns * cell[0] - COLUMN_GAP, 2 * MARGIN + needed), head + rows * cell[1])
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, INK, ImageFont.load_default(size=TITLE_SIZE))
    for index, arm in enumerate((comparison.original, comparison.artifact)):
        top = MARGIN + int(TITLE_SIZE * 1.8) + index * line
        pen.rectangle((MARGIN, top + 3, MARGIN + TEXT_SIZE - 4, top + TEXT_SIZE - 1), ACCENTS[arm.name])
        pen.text((MARGIN + TEXT_SIZE + 4, top), header[index], INK, text)
    for index, lines in enumerate(captions):
        left, top = MARGIN + (index % columns) * cell[0], head + (index // columns) * cell[1]
        for side, arm in enumerate((comparison.original, comparison.artifact)):
            x = left + side * (width + GAP)
            pen.text((x, top), f"{arm.name}  {arm.seconds[index]:.2f} s", ACCENTS[arm.name], text)
            sheet.paste(panels[side][index], (x, top + line))
        for row, words in enumerate(lines):
            pen.text((left, top + line + height + 4 + row * line), words, FAINT, text)
    return sheet


def _describe(arm: Arm) -> str:
    seconds, weights, packages = arm.seconds_per_image, arm.weight_bytes / 1e6, arm.package_bytes / 1e6
    words = f"{arm.name} ({arm.label}): {seconds:.2f} s an image (median), {weights:.1f} MB of weights"
    return words + (f", {packages:.1f} MB of compiled code" if packages else "")


def _panel(image: Image.Image) -> Image.Image:
    """The image so that its longer side is about PANEL pixels."""
    image = image.convert("RGB")
    factor = PANEL / max(image.size)
    if factor >= 1:
        whole = round(factor)
        return image.resize((image.width * whole, image.height * whole), Image.Resampling.NEAREST)
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Lines of `text`, each at most `width` pixels; at most three, the last one cut short where words are left."""
    lines, current = [], ""
    for word in text.split() or [""]:
        longer = f"{current} {word}".strip()
        if current and font.getlength(longer) > width:
            lines.append(current)
            current = word
        else:
            current = longer
    lines.append(current)
    if len(lines) > 3:
        lines = [*lines[:2], f"{lines[2]} …"]
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
