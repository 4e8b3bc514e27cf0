"""Votes cast faster than the answers could have been read are noise, whoever casts them."""

from dataclasses import dataclass

from feedback.judgements.judgement import Judgement


@dataclass(frozen=True, slots=True)
class TooFast:
    """Rejects a vote whose latency is below `share` of the time its texts take to read."""

    share: float = 0.25
    words_per_second: float = (
        5.0  # 300 a minute, the fast end of most adults: Brysbaert 2019, 10.1016/j.jml.2019.104047
    )
    reason: str = "too_fast"

    def rejects(self, judgement: Judgement) -> bool:
        """A vote without a measured latency is never rejected here: absence is not speed."""
        latency_s = judgement.vote.latency_s
        if latency_s is None:
            return False
        return latency_s < self.share * judgement.words / self.words_per_second
