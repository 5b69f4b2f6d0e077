"""Which stores there are, or may be: by the settings, each gateway's configuration, and the folders of its agents."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.openclaw.config import ConfigProblem, SessionConfig, read_config
from app.openclaw.folder import FileProblem
from app.openclaw.paths import (
    StateDir,
    StoreTarget,
    default_state_dir,
    find_databases,
    find_stores,
    state_dir_of,
)
from app.openclaw.rest import Rest, rest_of
from app.reconcile.report import Problem
from app.settings import Settings


def state_dirs(settings: Settings, env: Mapping[str, str]) -> tuple[StateDir, ...]:
    """The state dirs asked for, else OpenClaw's own."""
    found = [state_dir_of(path, env) for path in settings.state_dir or (default_state_dir(env),)]
    if len(found) == 1:
        return tuple(found)
    return tuple({os.path.realpath(state.path): state for state in found}.values())


@dataclass(frozen=True, slots=True)
class _Known:
    """Where the stores of one state dir are, while its configuration and its agents' folders rest."""

    config: SessionConfig
    rest: Rest
    targets: tuple[StoreTarget, ...]


class Places:
    """Remembers from pass to pass. One thread at a time."""

    def __init__(
        self, settings: Settings, env: Mapping[str, str], listed: Callable[[str], tuple[StoreTarget, ...]]
    ) -> None:
        """`listed` gives the databases of a state dir that lie elsewhere than by default, and raises FileProblem."""
        self._settings = settings
        self._env = env
        self._listed = listed
        self._known: dict[str, _Known] = {}
        self.state_dirs = state_dirs(settings, env)
        """As of the last pass."""

    def targets(self) -> tuple[list[StoreTarget], list[tuple[str, Problem]]]:
        """Every store that may be there now, and the state dirs that cannot be searched."""
        targets: list[StoreTarget] = []
        problems: list[tuple[str, Problem]] = []
        self.state_dirs = state_dirs(self._settings, self._env)
        for state in self.state_dirs:
            try:
                if not os.path.isdir(state.path):
                    raise FileProblem("no_state_dir", "there is no such folder; is CLAWMEND_STATE_DIR right?")
                targets += self._usual_places(state)
                targets += self._listed(state.path)
            except FileProblem as error:
                problems.append((state.path, Problem(error.code, error.detail)))
            except (ConfigProblem, ValueError) as error:
                problems.append((state.path, Problem("config_unreadable", str(error))))
        return targets, problems

    def _usual_places(self, state: StateDir) -> tuple[StoreTarget, ...]:
        """Where the configuration and the agents' folders say that stores are, or would be."""
        config = read_config(state.config_path, self._env)
        known = self._known.get(state.path)
        if known is not None and known.config == config and known.rest.holds():
            return known.targets
        rest = rest_of([os.path.join(state.path, "agents")])
        targets = (*find_databases(state, config), *find_stores(state, config, self._env))
        self._known.pop(state.path, None)
        if rest is not None and config.store is None:  # a place of the operator's own may have links on its way
            self._known[state.path] = _Known(config, rest, targets)
        return targets
