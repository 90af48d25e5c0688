#!/usr/bin/env python3
"""picture: draws what a command printed on a terminal, as an SVG.

    picture.py --output PICTURE.svg COMMAND [ARG...]    run COMMAND on a pseudo-terminal, and draw what it printed
    COMMAND | picture.py --output PICTURE.svg           draw what is read from stdin

It understands colours, bold, carriage returns, erasing and moving the cursor.
The picture is made only if COMMAND succeeds; the exit status is COMMAND's.
"""

import argparse
import fcntl
import os
import pty
import re
import struct
import sys
import termios
from html import escape

# One cell of the picture, in SVG units, for a monospaced font of FONT units.
FONT, WIDTH, HEIGHT, MARGIN, BAR = 14, 8.43, 19, 16, 34
BACK, FRONT, DIM = "#16181d", "#d7dae0", "#7d8590"
# The sixteen colours of ECMA-48's SGR 30-37 and 90-97.
COLOURS = (
    "#5c6370 #f47067 #7ec77b #e0b252 #6cb6ff #c99bf0 #56c2c9 #d7dae0 "
    "#7d8590 #ff938a #9be38f #f2cc60 #96d0ff #dcbdfb #7fdbe0 #ffffff"
).split()
PLAIN = (None, False)  # a cell's style: colour, bold

# A control sequence (CSI), an operating system command (OSC), another escape, or one character.
TOKEN = re.compile(r"\x1b\[([0-9;?]*)[ -/]*([@-~])|\x1b\].*?(?:\x07|\x1b\\)|\x1b.|(.)", re.S)


class Screen:
    """Rows of (character, style), of a terminal with as many rows as are needed."""

    def __init__(self, columns):
        self.columns, self.rows, self.row, self.column, self.style = columns, [[]], 0, 0, PLAIN

    def feed(self, text):
        for parameters, final, character in TOKEN.findall(text):
            if final:
                self.control([int(p) if p.isdigit() else 0 for p in parameters.split(";")], final)
            elif character == "\n":
                self.move(self.row + 1, 0)
            elif character == "\r":
                self.column = 0
            elif character == "\b":
                self.column = max(0, self.column - 1)
            elif character == "\t":
                self.column += 8 - self.column % 8
            elif character >= " ":
                self.put(character)

    def put(self, character):
        if self.column >= self.columns:
            self.move(self.row + 1, 0)
        row = self.rows[self.row]
        row.extend([(" ", PLAIN)] * (self.column + 1 - len(row)))
        row[self.column] = (character, self.style)
        self.column += 1

    def move(self, row, column):
        self.row, self.column = max(0, row), max(0, column)
        while len(self.rows) <= self.row:
            self.rows.append([])

    def control(self, parameters, final):
        count = parameters[0] or 1
        if final == "m":
            self.colour(parameters)
        elif final == "K" and parameters[0] == 0:
            del self.rows[self.row][self.column :]
        elif final == "K":
            self.rows[self.row] = []
        elif final == "J" and parameters[0] == 0:
            del self.rows[self.row][self.column :], self.rows[self.row + 1 :]
        elif final == "J":
            self.rows = [[]]
            self.move(self.row, self.column)
        elif final in "AF":
            self.move(self.row - count, 0 if final == "F" else self.column)
        elif final in "BE":
            self.move(self.row + count, 0 if final == "E" else self.column)
        elif final == "C":
            self.column += count
        elif final == "D":
            self.column = max(0, self.column - count)
        elif final == "G":
            self.column = count - 1
        elif final in "Hf":
            self.move(count - 1, (parameters[1] or 1) - 1 if len(parameters) > 1 else 0)

    def colour(self, parameters):
        colour, bold = self.style
        while parameters:
            code = parameters.pop(0)
            if code == 0:
                colour, bold = PLAIN
            elif code in (1, 22):
                bold = code == 1
            elif code == 2:
                colour = DIM
            elif 30 <= code <= 37:
                colour = COLOURS[code - 30]
            elif 90 <= code <= 97:
                colour = COLOURS[code - 82]
            elif code == 39:
                colour = None
            elif code in (38, 48) and parameters:
                kind = parameters.pop(0)
                values = [parameters.pop(0) for _ in range(min(len(parameters), 3 if kind == 2 else 1))]
                if code == 38 and kind == 2 and len(values) == 3:
                    colour = "#%02x%02x%02x" % tuple(min(v, 255) for v in values)
                elif code == 38 and kind == 5 and values:
                    colour = indexed(values[0])
        self.style = (colour, bold)


def indexed(number):
    """xterm's 256 colours: sixteen names, a cube of 216, 24 greys."""
    if number < 16:
        return COLOURS[number]
    if number < 232:
        levels = (0, 95, 135, 175, 215, 255)
        number -= 16
        return "#%02x%02x%02x" % (levels[number // 36], levels[number // 6 % 6], levels[number % 6])
    return "#%02x%02x%02x" % ((8 + 10 * (number - 232),) * 3)


def svg(rows, title):
    while rows and not any(character.strip() for character, _ in rows[-1]):
        rows.pop()
    columns = max([len(row) for row in rows] + [len(title) + 20, 60])
    width, height = columns * WIDTH + 2 * MARGIN, len(rows) * HEIGHT + BAR + MARGIN
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" font-size="{FONT}" fill="{FRONT}" '
        'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, \'DejaVu Sans Mono\', monospace">'
    )
    yield f"<title>{escape(title)}</title>"
    yield f'<rect width="100%" height="100%" rx="8" fill="{BACK}"/>'
    for number, colour in enumerate(("#f47067", "#e0b252", "#7ec77b")):
        yield f'<circle cx="{MARGIN + 6 + 20 * number}" cy="17" r="6" fill="{colour}"/>'
    yield f'<text x="{width / 2:.0f}" y="22" text-anchor="middle" fill="{DIM}">{escape(title)}</text>'
    for number, row in enumerate(rows):
        y = BAR + HEIGHT * number + FONT
        for start, text, (colour, bold) in runs(row):
            # Each run has its place and length, because the viewer's font may be narrower or wider.
            yield (
                f'<text xml:space="preserve" x="{MARGIN + start * WIDTH:.2f}" y="{y}" '
                f'textLength="{len(text) * WIDTH:.2f}" lengthAdjust="spacingAndGlyphs"'
                + (f' fill="{colour}"' if colour else "")
                + (' font-weight="bold"' if bold else "")
                + f">{escape(text)}</text>"
            )
    yield "</svg>"


def runs(row):
    """Yields (column, text, style) for each part of a row that has one style; blank parts are left out."""
    start = 0
    for end in range(1, len(row) + 1):
        if end == len(row) or row[end][1] != row[start][1]:
            text = "".join(character for character, _ in row[start:end])
            stripped = text.strip(" ")
            if stripped:
                yield start + len(text) - len(text.lstrip(" ")), stripped, row[start][1]
            start = end


def run(command, columns):
    """Runs COMMAND on a pseudo-terminal; passes on and returns what it prints, with its exit status."""
    shown = bytearray()

    def read(fd):
        data = os.read(fd, 65536)
        shown.extend(data)
        return data

    pid, fd = pty.fork()
    if pid == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        try:
            os.execvp(command[0], command)
        except OSError as error:
            print(f"picture: {command[0]}: {error.strerror}", file=sys.stderr)
            os._exit(127)
    while True:
        try:
            data = read(fd)
        except OSError:  # EIO: the terminal's last user has gone
            break
        if not data:
            break
        os.write(1, data)
    return bytes(shown), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", required=True, metavar="FILE")
    parser.add_argument("--title", default=None)
    parser.add_argument("--columns", type=int, default=100)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    status = 0
    if options.command:
        shown, status = run(options.command, options.columns)
    else:
        shown = sys.stdin.buffer.read()
    if status:
        print(f"picture: exit status {status}, no picture", file=sys.stderr)
        sys.exit(status if status > 0 else 1)
    screen = Screen(options.columns)
    screen.feed(shown.decode("utf-8", "replace"))
    title = options.title or " ".join(options.command) or "terminal"
    with open(options.output, "w", encoding="utf-8") as file:
        file.write("\n".join(svg(screen.rows, title)) + "\n")


if __name__ == "__main__":
    main()
