import { expect, it } from "vitest";

import type { JobView } from "../../api/schema";
import { type Bar, laid, lanesOf, WINDOW_SECONDS } from "./lanes";
import { farmState, workerActions, workerState } from "./state";

const bar = (key: string, start: number, end: number): Bar =>
  ({ key, start, end, transcription: "t", position: 0, state: "done", hedge: false });

it("lays bars that overlap into lanes of their own", () => {
  const lanes = laid([bar("a", 0, 10), bar("b", 5, 15), bar("c", 10, 20)]);
  expect(lanes.map((lane) => lane.map(({ key }) => key))).toEqual([["a", "c"], ["b"]]);
});

it("shows what is within the window, by worker", () => {
  const now = 1000;
  const attempt = (worker: string, started_at: number, ended_at: number | null) =>
    ({ number: 1, worker_id: worker, worker_name: worker, state: ended_at ? "done" : "live", started_at, ended_at });
  const attempts = [attempt("b", 990, null), attempt("a", 100, 990), attempt("a", 0, now - WINDOW_SECONDS - 1)];
  const job = { id: "t.0", kind: "transcribe", position: 0, attempts } as unknown as JobView;
  const lanes = lanesOf([{ id: "t", jobs: [job] }], now);
  expect(lanes.map(({ name, count }) => [name, count])).toEqual([["a", 1], ["b", 1]]);
  expect(lanes[0]?.lanes[0]?.[0]?.start).toBe(now - WINDOW_SECONDS);
});

it("says in one word how the farm is", () => {
  expect(farmState({ workers: 0, queued: 3, held: 0 }, 1)).toBe("empty");
  expect(farmState({ workers: 2, queued: 3, held: 0 }, 1)).toBe("waiting");
  expect(farmState({ workers: 2, queued: 0, held: 1 }, 1)).toBe("working");
  expect(farmState({ workers: 2, queued: 0, held: 0 }, 0)).toBe("idle");
  expect(farmState({ workers: 2, queued: 0, held: null }, 1)).toBe("working");
});

it("a worker rests only when it holds nothing more, and can then be told to go on", () => {
  expect(workerState({ state: "live", paused: true, jobs: 2, resting: false })).toBe("pausing");
  expect(workerState({ state: "live", paused: true, jobs: 0, resting: false })).toBe("paused");
  expect(workerState({ state: "draining", paused: true, jobs: 0, resting: false })).toBe("draining");
  expect(workerActions({ state: "live", paused: true, jobs: 0, resting: false })).toEqual(["resume", "drain", "dismiss"]);
  expect(workerActions({ state: "live", paused: false, jobs: 1, resting: false })).toEqual(["pause", "pause-now", "drain", "dismiss"]);
  expect(workerActions({ state: "draining", paused: false, jobs: 1, resting: false })).toEqual(["dismiss"]);
  expect(workerState({ state: "live", paused: false, jobs: 0, resting: true })).toBe("resting");
  expect(workerActions({ state: "gone", paused: false, jobs: 0, resting: false })).toEqual([]);
});
