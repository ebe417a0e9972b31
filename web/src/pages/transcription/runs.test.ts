import { expect, it } from "vitest";

import type { JobView } from "../../api/schema";
import { Runs, runStarts } from "./runs";

const jobs = (done: readonly number[]) =>
  done.map((position) => ({ kind: "transcribe", state: "done", position }) as unknown as JobView);

/** A server with these chunks done: gives them after a place, up to the first that is not done, at most `most`. */
function server(done: readonly number[], most = 50) {
  const asked: number[] = [];
  const fetch = (after: number) => {
    asked.push(after);
    let next = after;
    while (done.includes(next + 1) && next - after < most) next++;
    const segments = Array.from({ length: next - after }, (_, index) => {
      const position = after + 1 + index;
      return { start: position, end: position + 1, text: String(position) };
    });
    return Promise.resolve({ segments: segments as never, next });
  };
  return { asked, fetch };
}

const texts = (runs: Runs) => runs.segments.map(({ text }) => Number(text));

it("asks once for each run of finished chunks, wherever it is", async () => {
  const { asked, fetch } = server([0, 1, 2, 7, 8]);
  const runs = new Runs(fetch);
  expect(await runs.update(jobs([0, 1, 2, 7, 8]))).toBe(true);
  expect(asked).toEqual([-1, 6]);
  expect(texts(runs)).toEqual([0, 1, 2, 7, 8]);
  expect(await runs.update(jobs([0, 1, 2, 7, 8]))).toBe(false);
});

it("shows each chunk once when a hole between two runs is filled", async () => {
  let done = [3, 4, 5];
  const runs = new Runs((after) => server(done, 2).fetch(after));
  await runs.update(jobs(done));
  expect(texts(runs)).toEqual([3, 4, 5]);
  done = [2, 3, 4, 5];
  await runs.update(jobs(done));
  expect(texts(runs)).toEqual([2, 3, 4, 5]);
});

it("forgets a chunk that is done again", async () => {
  const runs = new Runs(server([0, 1]).fetch);
  await runs.update(jobs([0, 1]));
  expect(await runs.update(jobs([]))).toBe(true);
  expect(texts(runs)).toEqual([]);
});

it("knows where runs begin", () => {
  expect(runStarts([1, 2, 4, 6], new Set([1]))).toEqual([2, 4, 6]);
});
