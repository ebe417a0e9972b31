import { QueryClient } from "@tanstack/react-query";
import { expect, it, vi } from "vitest";

import { transcriptionQuery } from "../api/queries";
import type { TranscriptionView } from "../api/schema";
import { Applied, BUNDLE_MS } from "./apply";

it("asks once more where the answer under way may not know of what happened", async () => {
  vi.useFakeTimers();
  const client = new QueryClient();
  const answers: ((value: string) => void)[] = [];
  const asked = { queryKey: ["tokens"], queryFn: () => new Promise<string>((resolve) => void answers.push(resolve)) };
  const first = client.fetchQuery(asked);
  new Applied(client).event({ id: 1, kind: "settings_changed", transcription_id: null, at: 0, data: { what: "tokens" } });
  await vi.advanceTimersByTimeAsync(BUNDLE_MS);
  answers[0]?.("before");
  await first;
  await vi.advanceTimersByTimeAsync(BUNDLE_MS);
  expect(client.getQueryState(["tokens"])?.isInvalidated).toBe(true);
  vi.useRealTimers();
});

it("does not take for fresh what is out of date because progress was written into it", () => {
  const client = new QueryClient();
  const one = { id: "one", state: "running", progress: { chunks_done: 0, done_seconds: 0 } } as TranscriptionView;
  const done = (chunks_done: number) =>
    new Applied(client).event({ id: 1, kind: "job_done", transcription_id: "one", at: 0, data: { chunks_done, done_seconds: 30 } });
  client.setQueryData(["transcriptions", []], { pages: [{ transcriptions: [one] }], pageParams: [null] });
  client.setQueryData(transcriptionQuery("one").queryKey, one);
  done(1);
  expect(client.getQueryData(transcriptionQuery("one").queryKey)?.progress.chunks_done).toBe(1);
  void client.invalidateQueries(); // nobody looks at them: they wait for somebody who does
  done(2);
  expect(client.getQueryCache().getAll().map(({ state }) => state.isInvalidated)).toEqual([true, true]);
});
