"""Types into `hardtack sql` as somebody at a terminal does: completion, several lines, history, Ctrl-C and Ctrl-D.

    shell.py FOLDER_OF_BINARIES

What does not come within ten seconds is an error, with the screen as it was.
"""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

PROMPT = "sql> "
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[a-zA-Z]")


class Shell:
    """`hardtack sql` on a terminal of its own."""

    def __init__(self, program: list[str], folder: Path) -> None:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environment = {**os.environ, "TERM": "xterm", "HARDTACK_HISTORY": str(folder / "history")}
        self.process = subprocess.Popen(
            program, stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        os.close(slave)
        self.terminal, self.seen = master, b""

    def until(self, wanted: str) -> str:
        """What comes up to this text, which has to come."""
        end = time.monotonic() + 10
        while wanted.encode() not in self.seen:
            if not select.select([self.terminal], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{wanted!r} did not come; there is {self.seen.decode(errors='replace')!r}")
            self.seen = ESCAPES.sub(b"", self.seen + os.read(self.terminal, 65536))
        before, _, self.seen = self.seen.partition(wanted.encode())
        return before.decode()

    def type(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def ends(self) -> None:
        self.type("\x04")
        code = self.process.wait(timeout=10)
        assert code == 0, f"the shell ended with {code}"
        os.close(self.terminal)


def check(binaries: Path, folder: Path) -> None:
    hardtack = str(binaries / "hardtack")
    catalog = ["--catalog", f"embedded:{folder / 'catalog.db'}"]
    (folder / "lake" / "books").mkdir(parents=True)
    (folder / "lake" / "books" / "a.jsonl").write_text('{"title": "Emma"}\n{"title": "Ulysses"}\n')
    crawl = [hardtack, "crawl", str(folder / "lake"), "--database", "lake", *catalog]
    subprocess.run(crawl, check=True, stdout=subprocess.DEVNULL)

    shell = Shell([hardtack, "sql", *catalog], folder)
    shell.until(PROMPT)
    shell.type("select title from lake.bo\t")
    shell.until("lake.books")
    # Not complete without a semicolon.
    shell.type("\r")
    shell.type("order by tit\t desc limit 1;\r")
    drawn = shell.until("Ulysses")
    assert "title" in drawn and "Emma" not in drawn, drawn
    shell.until(PROMPT)

    # A line that is given up, a mistake, and the query before them again.
    shell.type("select nonsense\x03")
    shell.until(PROMPT)
    shell.type("select nonsense from lake.books;\r")
    shell.until("there is no column `nonsense`")
    shell.until(PROMPT)
    shell.type("\x1b[A\x1b[A\r")
    shell.until("Ulysses")
    shell.until(PROMPT)
    shell.ends()

    # The next session remembers.
    shell = Shell([hardtack, "sql", *catalog], folder)
    shell.until(PROMPT)
    shell.type("\x1b[A\x1b[A\r")
    shell.until("Ulysses")
    shell.until(PROMPT)
    shell.ends()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        check(Path(sys.argv[1]), Path(temporary))
    print("a shell on a terminal: completion, several lines, history, Ctrl-C, Ctrl-D")
