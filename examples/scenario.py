"""A scenario: a goal, inputs, checks, and decisions that a scripted model can play.

In: the folders beside this file. Out: scenarios by name.
Must not know: how a run is carried out.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.checks import Check
from openk2.agent.models.scripted import Turn
from openk2.agent.tools.corpus import Document

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Scenario:
    """One folder of examples."""

    name: str
    """The folder's name, such as 01-operations-report."""

    @property
    def folder(self) -> Path:
        """Where it lies."""
        return HERE / self.name

    def goal(self, language: str = "en") -> str:
        """Return what the agent is asked for, in `en` or `zh`."""
        file = "goal.md" if language == "en" else f"goal.{language}.md"
        return (self.folder / file).read_text(encoding="utf-8").strip()

    def make_inputs(self, workspace: Path) -> None:
        """Write the inputs, the same at every time."""
        self._part("inputs").make(workspace)

    def documents(self) -> list[Document]:
        """Return the pages that a search finds; none where the scenario needs no search."""
        documents = getattr(self._part("inputs"), "documents", list)
        return [Document(**document) for document in documents()]

    def recipients(self) -> tuple[str, ...]:
        """Return to whom mail may go; nobody where the scenario sends none."""
        return getattr(self._part("inputs"), "RECIPIENTS", ())

    def turns(self) -> list[Turn]:
        """Return a scripted model's decisions."""
        return self._part("script").turns()

    def verify(self, workspace: Path) -> Sequence[Check]:
        """Check what a run left in its workspace."""
        return self._part("verify").verify(workspace)

    def _part(self, name: str):  # noqa: ANN202 - a module of the folder, whose name is no identifier
        return importlib.import_module(f"examples.{self.name}.{name}")


def scenarios() -> list[Scenario]:
    """Return all scenarios in order."""
    return [Scenario(path.name) for path in sorted(HERE.glob("[0-9][0-9]-*")) if path.is_dir()]


def find(name: str) -> Scenario:
    """Find a scenario by its name, its number, or a part of its name.

    Raises:
        LookupError: None or several fit; the message lists them.
    """
    every = scenarios()
    found = [one for one in every if name in (one.name, one.name[:2], one.name[:2].lstrip("0"))]
    found = found or [one for one in every if name in one.name]
    if len(found) != 1:
        names = "\n  ".join(one.name for one in found or every)
        problem = "several scenarios fit" if found else "there is no scenario"
        raise LookupError(f"{problem} {name!r}:\n  {names}")
    return found[0]
