"""The tables of the machines that a farm starts."""

from __future__ import annotations

from whisper_farm.store.columns import (
    BOOLEAN,
    INTEGER,
    JSON_TEXT,
    REAL,
    TEXT,
    each,
    holds,
    index,
    key,
    number,
    one_of,
    partial,
    single,
    some,
    table,
    zero,
)

fleet = table("fleet", single(), each(TEXT, "owner"), some(TEXT, "holder"), zero(REAL, "held_until"))
"""The tag of every machine of this farm, and the coordinator whose turn it is to look after them."""

machine_pools = table(
    "machine_pools",
    key("name"),
    each(TEXT, "switch why"),
    some(TEXT, "blocked_why"),
    some(INTEGER, "fixed"),
    zero(INTEGER, "failures crashes wanted"),
    zero(REAL, "blocked_until next_launch_at decided_at"),
    each(JSON_TEXT, "full_regions inputs"),
    one_of("switch", "on", "paused", "drained", "stopped"),
)
"""What is remembered of each pool. `switch` and `fixed` are the administrators', everything else the reconciler's."""

machines = table(
    "machines",
    key("launch_id"),
    each(TEXT, "pool provider region state why"),
    some(TEXT, "machine_id worker_id failure wish"),
    zero(INTEGER, "asks missing"),
    each(REAL, "price_per_hour intended_at asked_at"),
    some(REAL, "accepted_at started_at registered_at drained_at ending_at ended_at running_since"),
    zero(REAL, "next_call_at spent"),
    zero(BOOLEAN, "unsure"),
    each(JSON_TEXT, "stretches"),
    one_of(
        "state", "intended", "accepted", "started", "working", "draining", "stopping", "stopped", "destroying",
        "orphan", "gone",
    ),
    one_of("wish", "start", "drain", "stop", "destroy"),
    holds("gone_dated", "(state = 'gone') = (ended_at IS NOT NULL)"),
    holds("gone_unpaid", "state <> 'gone' OR running_since IS NULL"),
    holds("working_known", "state <> 'working' OR worker_id IS NOT NULL"),
    holds("ending_dated", "state NOT IN ('stopping', 'destroying') OR ending_at IS NOT NULL"),
    index("ended_at"),
    partial("ix_machines_counted", "state <> 'gone'", "pool"),
)  # fmt: skip
"""One launch each, written down before the provider is asked. Everything that is not `gone` counts.

`stretches` are the times it ran, `[from, to]`; `running_since` begins the one that goes on. `unsure` says that an
answer was lost, so that it may exist although it was never seen. `wish` is what an administrator asks for.
"""

machine_log = table(
    "machine_log",
    number(),
    each(REAL, "at"),
    each(TEXT, "pool kind text"),
    some(TEXT, "launch_id"),
    index("pool", "id"),
    index("launch_id", "id"),
    index("at"),
    numbered=True,
)
"""What was decided about machines, what providers answered, and why; in words."""
