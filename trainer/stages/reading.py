"""The general text of a cycle, as pieces of tokens; asked for early, so that a wrong file ends the cycle at once."""

from infra.settings import SettingsError
from trainer.general_text import CHUNK, chunks, read_text
from trainer.stages.material import Material

LEAST = 2  # pieces, for an interval


def read_pieces(material: Material) -> list[list[int]]:
    """Empty without `trainer.general_text_file`; raises SettingsError where it is missing or too short."""
    file = material.settings.general_text_file
    if not file:
        return []
    pieces = chunks(material.base.tokenizer, read_text(file))
    if len(pieces) < LEAST:
        raise SettingsError(f"trainer.general_text_file: {file} has fewer than {LEAST * CHUNK} tokens")
    return pieces
