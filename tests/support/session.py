"""`session.py COMMANDS FILE`: commands, JSON lists of words, one by one; exit code and output of each to FILE."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

from rlrun import cli

answers = []
for words in json.loads(sys.argv[1]):
    with redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as err:
        code = cli.main(words)
    answers.append([code, out.getvalue(), err.getvalue()])
Path(sys.argv[2]).write_text(json.dumps(answers))
