// The state of the farm in one word. Pure.
import type { WorkerAction } from "../../api/queries";
import type { TranscriptionView, WorkerView } from "../../api/schema";

export type FarmState = "idle" | "working" | "waiting" | "empty";

export interface Numbers {
  readonly workers: number;
  readonly queued: number;
  /** Jobs that workers hold; null for who may not know. */
  readonly held: number | null;
}

export function farmState({ workers, queued, held }: Numbers, running: number): FarmState {
  if (workers === 0) return "empty";
  if (held === null ? running > 0 : held > 0) return "working";
  return queued > 0 ? "waiting" : "idle";
}

type Told = Pick<WorkerView, "state" | "paused" | "jobs" | "resting">;

/** A worker's state in one word: what it was told last counts more than what it does. */
export function workerState({ state, paused, jobs, resting }: Told): WorkerView["state"] | "ready" | "pausing" | "paused" | "resting" {
  if (state !== "live") return state;
  if (resting) return "resting";
  if (paused) return jobs ? "pausing" : "paused";
  return jobs ? "live" : "ready";
}

/** What a worker can be told now. */
export function workerActions({ state, paused, jobs }: Told): readonly WorkerAction[] {
  if (state === "gone" || state === "dismissed") return [];
  if (state === "draining") return ["dismiss"];
  const rest: WorkerAction[] = paused ? ["resume"] : ["pause"];
  return [...rest, ...(jobs ? (["pause-now"] as const) : []), "drain", "dismiss"];
}

/** Audio-seconds that are to be done yet, as far as they are known. */
export function secondsLeft(active: readonly TranscriptionView[]): number {
  return active.reduce((sum, { progress }) => {
    const whole = progress.duration_seconds ?? progress.cut_seconds ?? 0;
    return sum + Math.max(0, whole - (progress.done_seconds ?? 0));
  }, 0);
}
