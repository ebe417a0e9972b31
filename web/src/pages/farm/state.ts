// The state of the farm in one word. Pure.
import type { TranscriptionView } from "../../api/schema";

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

/** Audio-seconds that are to be done yet, as far as they are known. */
export function secondsLeft(active: readonly TranscriptionView[]): number {
  return active.reduce((sum, { progress }) => {
    const whole = progress.duration_seconds ?? progress.cut_seconds ?? 0;
    return sum + Math.max(0, whole - (progress.done_seconds ?? 0));
  }, 0);
}
