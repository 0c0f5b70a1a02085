"""A terminal of a few lines of code: what stands on it after everything that was written."""

import io
import re

_CODE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Terminal(io.StringIO):
    """A stream that says it is a terminal; `shown` plays what was written to it."""

    def isatty(self) -> bool:
        return True

    def shown(self) -> list[str]:
        """Return the lines as they stand; the cursor is moved up and lines are erased as rich asks for."""
        lines, row, column = [""], 0, 0
        text, place = self.getvalue(), 0
        while place < len(text):
            if code := _CODE.match(text, place):
                place = code.end()
                if code[2] == "A":
                    row -= int(code[1] or 1)
                elif code[2] == "K":
                    lines[row] = ""
                continue
            letter, place = text[place], place + 1
            if letter == "\n":
                row, column = row + 1, 0
                lines += [""] * (row + 1 - len(lines))
            elif letter == "\r":
                column = 0
            else:
                lines[row] = f"{lines[row]:<{column}}"[:column] + letter + lines[row][column + 1 :]
                column += 1
        return [line.rstrip() for line in lines]
