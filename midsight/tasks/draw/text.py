"""Text that stays inside its picture: sized to it, shortened where it must be, left out where it cannot be read."""

from functools import cache

from PIL import ImageDraw, ImageFont

Colour = tuple[int, int, int]

_SMALLEST, _LARGEST = 10, 60  # pixels: height of a font
_SHARE = 30  # a font's height is this part of the shorter side
PAD = 2  # pixels around a text


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


class Writer:
    """Writes into one picture with a font that suits its size.

    Attributes:
        line: pixels: height of a line with the space around it.
    """

    def __init__(self, draw: ImageDraw.ImageDraw, width: int, height: int) -> None:
        self._draw, self.width, self.height = draw, width, height
        self.size = min(_LARGEST, max(_SMALLEST, min(width, height) // _SHARE))
        self._font = _font(self.size)
        top, bottom = self._font.getbbox("Ag|")[1::2]
        self._rise, self.line = int(top), int(bottom - top + 0.5) + 2 * PAD

    def fit(self, text: str, room: int) -> str:
        """The text in one line, shortened to so many pixels with its padding; empty where nothing fits."""
        text = " ".join(text.split())
        if self.measure(text) <= room:
            return text
        while text and self.measure(text + "...") > room:
            text = text[:-1]
        return text + "..." if text else ""

    def measure(self, text: str) -> int:
        """Pixels: width of a line of text with its padding."""
        return int(self._font.getlength(text) + 0.999) + 2 * PAD

    def write(self, text: str, left: int, top: int, colour: Colour, behind: Colour | None = None) -> None:
        """A line of text with its upper left corner at a place, moved and shortened until it lies inside.

        Args:
            behind: colour of a rectangle behind it.
        """
        text = self.fit(text, self.width)
        if not text or self.line > self.height:
            return
        across = self.measure(text)
        left = min(max(left, 0), self.width - across)
        top = min(max(top, 0), self.height - self.line)
        if behind is not None:
            self._draw.rectangle((left, top, left + across - 1, top + self.line - 1), fill=behind)
        self._draw.text((left + PAD, top + PAD - self._rise), text, fill=colour, font=self._font)


def readable_on(colour: Colour) -> Colour:
    """Black or white, whichever stands out more (by relative luminance, ITU-R BT.709)."""
    red, green, blue = ((value / 255) ** 2.2 for value in colour)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else (255, 255, 255)
