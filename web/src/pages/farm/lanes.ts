// Who did what when: attempts of the last minutes, laid into lanes that do not overlap. Pure.
import type { JobView } from "../../api/schema";

export const WINDOW_SECONDS = 300;
const MOST_LANES = 16;

export interface Bar {
  readonly key: string;
  readonly start: number;
  readonly end: number;
  readonly transcription: string;
  readonly position: number;
  readonly state: "live" | "done" | "other";
  readonly hedge: boolean;
}

export interface WorkerLanes {
  readonly worker: string;
  readonly name: string;
  readonly lanes: readonly (readonly Bar[])[];
  readonly count: number;
}

export interface Work {
  readonly id: string;
  readonly jobs: readonly JobView[];
}

/** The lanes of each worker, by name; what ended before the window is left out. */
export function lanesOf(work: readonly Work[], now: number): WorkerLanes[] {
  const workers = new Map<string, { name: string; bars: Bar[] }>();
  for (const { id, jobs } of work) {
    for (const job of jobs) {
      for (const attempt of job.attempts ?? []) {
        const end = attempt.ended_at ?? now;
        if (end < now - WINDOW_SECONDS) continue;
        const worker = workers.get(attempt.worker_id) ?? { name: attempt.worker_name ?? attempt.worker_id, bars: [] };
        workers.set(attempt.worker_id, worker);
        worker.bars.push({
          key: `${job.id}.${attempt.number}`,
          start: Math.max(attempt.started_at, now - WINDOW_SECONDS),
          end,
          transcription: id,
          position: job.kind === "chunk" ? -1 : job.position,
          state: attempt.state === "live" ? "live" : attempt.state === "done" ? "done" : "other",
          hedge: attempt.hedge,
        });
      }
    }
  }
  return [...workers]
    .map(([worker, { name, bars }]) => ({ worker, name, lanes: laid(bars), count: bars.length }))
    .sort((a, b) => a.name.localeCompare(b.name));
}

/** Each bar goes into the first lane that is free; beyond the last lane they share it. */
export function laid(bars: readonly Bar[]): Bar[][] {
  const lanes: Bar[][] = [];
  const ends: number[] = [];
  for (const bar of [...bars].sort((a, b) => a.start - b.start || a.position - b.position)) {
    let lane = ends.findIndex((end) => end <= bar.start + 0.001);
    if (lane < 0) lane = Math.min(lanes.length, MOST_LANES - 1);
    (lanes[lane] ??= []).push(bar);
    ends[lane] = Math.max(ends[lane] ?? 0, bar.end);
  }
  return lanes;
}
