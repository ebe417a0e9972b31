import { QueryClient } from "@tanstack/react-query";
import { expect, it, vi } from "vitest";

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
