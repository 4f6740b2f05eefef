"""Starts MiniStack in this process, with the extensions installed (`parameter_events`, `object_events`, `object_ranges`,
`partiql_transactions`, `secret_events`, `secret_names`, `http_proxy`, `ecs_tasks`, `faults`, `whole_answers`, `iam_enforcement`,
`aws_limits`).

Run by the launcher with the virtual environment's Python. Its settings are in the environment: `GATEWAY_PORT`,
`BIND_HOST` and `STATE_DIR` are MiniStack's own. Exits 1 with one line when an extension does not fit MiniStack.
"""

from __future__ import annotations

import sys

import aws_limits
import ecs_tasks
import faults
import hooks
import http_proxy
import iam_enforcement
import object_events
import object_ranges
import parameter_events
import partiql_transactions
import secret_events
import secret_names
import whole_answers


def main() -> int:
    """Serves until SIGTERM."""
    try:
        control = faults.install()
        control.publisher = parameter_events.install(control.deliveries)
        object_events.install()
        object_ranges.install()
        partiql_transactions.install()
        secret_events.install()
        secret_names.install()
        http_proxy.install()
        whole_answers.install()
        ecs_tasks.install(iam_enforcement.install())
        aws_limits.install()
    except (ImportError, hooks.UnsupportedEmulator) as error:
        print(f"the emulator cannot start: {error}", file=sys.stderr)
        return 1
    from ministack import app

    app.main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
