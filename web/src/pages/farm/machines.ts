// What a machine in a state can be asked for, and what the pools cost together. Pure.
import type { MachineView, PoolView } from "../../api/schema";

export type MachineAction = "start" | "drain" | "stop" | "destroy";

export function actionsOf({ state, ended_at }: Pick<MachineView, "state" | "ended_at">): readonly MachineAction[] {
  if (ended_at !== null) return [];
  if (state === "stopped") return ["start", "destroy"];
  if (state === "stopping" || state === "destroying" || state === "orphan") return ["destroy"];
  if (state === "draining") return ["stop", "destroy"];
  return ["drain", "stop", "destroy"];
}

/** How many machines one more would be; null where the maximum is reached. */
export function oneMore({ fixed, counted, maximum }: Pick<PoolView, "fixed" | "counted" | "maximum">): number | null {
  const next = Math.max(fixed ?? 0, counted) + 1;
  return next <= maximum ? next : null;
}

export function spentToday(pools: readonly PoolView[]): number {
  return pools.reduce((sum, one) => sum + one.spent_today, 0);
}
