"""Who plays, and how episodes are drawn.

In: an engine and its tokenizer; settings. Out: `Policy` and `RolloutConfig`.
Must not know: conversations, problems, how new weights are made.
"""

from __future__ import annotations

from dataclasses import dataclass

from openk2.engine.engine import Engine
from openk2.engine.thread import EngineThread
from openk2.server.local.strict import vocabulary_of
from openk2.text.tokenizer import Tokenizer


@dataclass(frozen=True, slots=True)
class RolloutConfig:
    """How episodes are drawn."""

    temperature: float = 1.0
    """1 draws from the policy itself; 0 takes the best token."""
    grammar: bool = True
    """Whether answers that may call tools are held to the tools' schemas, as they are when the
    model is served. Without, the policy has to learn them."""
    pause_after: int | None = None
    """Tokens after which an episode waits for the next policy; none: it is always finished."""
    loop_period: int = 24
    """Longest n-gram whose repetition ends an episode; 0 lets the policy repeat itself."""
    loop_tokens: int = 48
    """Tokens in a row that must repeat what stood one n-gram before: more than a table or a puzzle
    has of the same."""

    def __post_init__(self) -> None:
        """Refuse what could never be drawn."""
        if not self.temperature >= 0:
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}")
        if self.pause_after is not None and self.pause_after < 1:
            raise ValueError(f"pause_after must be at least 1 or none, not {self.pause_after}")
        if self.loop_period < 0 or self.loop_tokens < 1:
            raise ValueError(
                f"loop_period {self.loop_period} must be 0 or more and loop_tokens "
                f"{self.loop_tokens} at least 1"
            )


class Policy:
    """The model that plays: an engine on its own thread, and the vocabulary it speaks."""

    def __init__(self, engine: Engine, tokenizer: Tokenizer, *, thinking: bool = False) -> None:
        """Start the engine's thread; `close` ends it.

        Args:
            engine: Belongs to the policy from here on.
            tokenizer: The engine's vocabulary.
            thinking: Conversations are written in the Thinking template.
        """
        self.engine = engine
        self.tokenizer = tokenizer
        self.thinking = thinking
        self.source = EngineThread(engine)
        """Takes requests of many callers, and new weights."""
        self.vocabulary = vocabulary_of(tokenizer)
        """What grammars are made for; None if the model cannot call tools."""

    @property
    def version(self) -> int:
        """Count the times that its weights were replaced."""
        return self.engine.version

    def __enter__(self) -> Policy:
        """Return itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """End the engine's thread."""
        self.close()

    def close(self) -> None:
        """End the engine's thread; what it was writing fails."""
        self.source.close()
