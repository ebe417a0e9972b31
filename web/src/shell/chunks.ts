// The state of a chunk as people see it, and its colour.
import type { JobView } from "../api/schema";

export type ChunkState = "waiting" | "running" | "hedged" | "done" | "retried" | "failed" | "cancelled";

export const CHUNK_COLOURS: Record<ChunkState, string> = {
  waiting: "light-dark(#d5dcd9, #3a4642)",
  running: "#3b82f6",
  hedged: "#8b5cf6",
  done: "#2a9d6f",
  retried: "#a3b51f",
  failed: "#dc4c3e",
  cancelled: "#8a9691",
};

export function chunkState(job: JobView): ChunkState {
  const attempts = job.attempts ?? [];
  switch (job.state) {
    case "queued":
      return "waiting";
    case "running":
      return attempts.filter(({ state }) => state === "live").length > 1 ? "hedged" : "running";
    case "done":
      return job.charged_attempts > 0 ? "retried" : "done";
    case "failed":
      return "failed";
    case "cancelled":
      return "cancelled";
  }
}
