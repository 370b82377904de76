"""``toolkit predict --batch``: any number of rows, in the memory that some take."""

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from toolkit.cli.console import Counter
    from toolkit.predictor import Predictor
    from toolkit.streaming.answers import Answered

__all__ = ["predict_batch"]

ERRORS_SAID, NOTES_SAID = 20, 5  # one by one; the others are counted


def predict_batch(predictor: "Predictor", path: str, output: Path | None, *, json: bool) -> int:
    """Answer all the rows behind a path: as JSON lines, or as a table of what they come to.

    Args:
        predictor: the model.
        path: what ``--batch`` names.
        output: a file for all answers, or None.
        json: whether stdout gets a line for each row.

    Returns:
        The exit code: that of the first row that has no answer.
    """
    from toolkit.cli.answer_tables import Tally
    from toolkit.cli.console import counted, note, steps
    from toolkit.progress import silent_step
    from toolkit.streaming.answers import answer_blocks
    from toolkit.streaming.sources import open_source
    from toolkit.streaming.writing import answers_file, check_answers_file, json_lines

    if output is not None:
        check_answers_file(output, predictor, path)
    if sys.stderr.isatty():
        with steps("predict") as step:
            source = open_source(path, predictor, step)
    else:
        source = open_source(path, predictor, silent_step)
    for line in source.notes:
        note(line)
    tally, said = Tally(predictor), _Said()
    with ExitStack() as stack:
        writer = stack.enter_context(answers_file(output, predictor, source.count)) if output else None
        quiet = json and sys.stdout.isatty()
        counter = stack.enter_context(counted(f"predict {path}", source.count, "rows", quiet=quiet))
        for answered in answer_blocks(predictor, source):
            said.add(answered, counter)
            if answered.batch is not None:
                tally.add(answered.batch)
            if writer:
                writer.add(answered)
            if json:
                sys.stdout.writelines(json_lines(answered))
                sys.stdout.flush()  # whoever reads the pipe can work on these while the next are read
            counter.advance(len(answered))
    if not json and (tally.rows or not said.failed):
        tally.print(f"{predictor.file.path} ({predictor.file.kind}): {tally.rows:,} rows of {path}")
    said.finish(source.count, output)
    return said.code


class _Said:
    """What stderr is told of rows: the first errors and notes one by one, the others by their number."""

    def __init__(self) -> None:
        self.code = self.failed = self.changed = 0

    def add(self, answered: "Answered", counter: "Counter") -> None:
        for _, failure in sorted(answered.failed.items()):
            self.code = self.code or failure.exit_code
            self.failed += 1
            if self.failed <= ERRORS_SAID:
                counter.note(f"error: {failure.message}")
        for line in answered.notes:
            self.changed += 1
            if self.changed <= NOTES_SAID:
                counter.note(line)

    def finish(self, count: int, output: Path | None) -> None:
        from toolkit.cli.console import note

        if self.changed > NOTES_SAID:
            note(f"... and {self.changed - NOTES_SAID:,} more pictures that were made to fit")
        if self.failed > ERRORS_SAID:
            note(f"... and {self.failed - ERRORS_SAID:,} more such errors")
        if self.failed:
            note(f"{self.failed:,} of {count:,} rows have no answer{', which their places say' if output else ''}")
        if output is not None:
            note(f"{count:,} rows written to {output}")
