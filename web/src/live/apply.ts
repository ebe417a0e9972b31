// Events become what the pages show: progress is written at once, everything else is asked for again, in bundles.
import type { InfiniteData, Query, QueryClient } from "@tanstack/react-query";

import type { TranscriptionList, TranscriptionView } from "../api/schema";
import type { FarmEvent } from "./hub";

export const BUNDLE_MS = 120;

export class Applied {
  private keys = new Map<string, readonly unknown[]>();
  private timer: ReturnType<typeof setTimeout> | null = null;

  constructor(private readonly client: QueryClient) {}

  event(event: FarmEvent): void {
    const id = event.transcription_id;
    if (event.kind === "job_done" && id !== null) {
      this.progress(id, event);
      this.stale(["jobs", id]);
      this.stale(["server"]);
    } else if (event.kind === "transcription_edited" && id !== null) {
      this.stale(["edits", id]);
    } else if (event.kind === "peaks_done" && id !== null) {
      this.stale(["audio", id]);
      this.stale(["peaks", id]);
      this.stale(["jobs", id]);
    } else if (event.kind.startsWith("worker_")) {
      this.stale(["workers"]);
      this.stale(["server"]);
      this.stale(["session"]);
      this.stale(["transcriptions"]); // their warnings speak of workers
    } else if (event.kind === "limits_changed") {
      this.stale(["limits"]);
    } else if (event.kind === "settings_changed") {
      this.stale([event.data.what]);
    } else if (id !== null) {
      this.stale(["feeds"]); // they count their episodes
      this.stale(["transcriptions"]);
      this.stale(["search"]);
      this.stale(["transcription", id]);
      this.stale(["jobs", id]);
      this.stale(["server"]);
    }
  }

  private progress(id: string, event: FarmEvent): void {
    const { done_seconds, chunks_done } = event.data;
    if (typeof done_seconds !== "number" || typeof chunks_done !== "number") return;
    const moved = (one: TranscriptionView): TranscriptionView =>
      one.id === id && one.progress.chunks_done < chunks_done
        ? { ...one, progress: { ...one.progress, done_seconds, chunks_done } }
        : one;
    // What is out of date stays so: written into, it would pass for fresh.
    const predicate = ({ state }: Query) => !state.isInvalidated;
    this.client.setQueriesData<TranscriptionView>({ queryKey: ["transcription", id], predicate }, (one) => one && moved(one));
    this.client.setQueriesData<InfiniteData<TranscriptionList>>({ queryKey: ["transcriptions"], predicate }, (list) =>
      list && {
        ...list,
        pages: list.pages.map((page) => ({ ...page, transcriptions: page.transcriptions.map(moved) })),
      },
    );
  }

  private stale(key: readonly unknown[]): void {
    this.keys.set(JSON.stringify(key), key);
    this.timer ??= setTimeout(() => this.flush(), BUNDLE_MS);
  }

  /** What is being asked for already may not know of it: it is asked for once more after that. */
  private flush(): void {
    this.timer = null;
    const keys = [...this.keys.values()];
    this.keys.clear();
    for (const queryKey of keys) {
      if (this.client.isFetching({ queryKey })) this.stale(queryKey);
      else void this.client.invalidateQueries({ queryKey });
    }
  }
}
