// What the app asks the farm for, and what it asks the farm to do. Every page takes its data from here.
import { queryOptions, useMutation, useQueryClient } from "@tanstack/react-query";

import { api, data } from "./client";
import type { JobView, TranscriptionView } from "./schema";

export type State = TranscriptionView["state"];
export const ACTIVE: readonly State[] = ["queued", "running", "assembling"];
export const isActive = (one: TranscriptionView) => ACTIVE.includes(one.state);
export const hasTranscript = (one: TranscriptionView) => one.state === "done" || one.state === "incomplete";

export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: () => data(api.GET("/app/session")),
  staleTime: Infinity,
});

export const serverQuery = queryOptions({ queryKey: ["server"], queryFn: () => data(api.GET("/api/server")) });

export const workersQuery = queryOptions({
  queryKey: ["workers"],
  queryFn: async () => (await data(api.GET("/api/workers"))).workers,
});

export const PAGE = 50;

export const listQuery = {
  queryKey: ["transcriptions"] as const,
  queryFn: ({ pageParam }: { pageParam: string | null }) =>
    data(api.GET("/api/transcriptions", { params: { query: { limit: PAGE, after: pageParam } } })),
  initialPageParam: null as string | null,
  getNextPageParam: (page: { next?: string | null }) => page.next ?? null,
};

export const transcriptionQuery = (id: string) =>
  queryOptions({
    queryKey: ["transcription", id],
    queryFn: () => data(api.GET("/api/transcriptions/{transcription_id}", { params: { path: { transcription_id: id } } })),
  });

/** All jobs of a transcription, page by page. */
export const jobsQuery = (id: string) =>
  queryOptions({
    queryKey: ["jobs", id],
    queryFn: async () => {
      const jobs: JobView[] = [];
      let after: number | null = null;
      do {
        const page: { jobs: readonly JobView[]; next?: number | null } = await data(
          api.GET("/api/transcriptions/{transcription_id}/jobs", {
            params: { path: { transcription_id: id }, query: { limit: 1000, after } },
          }),
        );
        jobs.push(...page.jobs);
        after = page.next ?? null;
      } while (after !== null);
      return jobs;
    },
  });

export type Action = "cancel" | "retry" | "delete";

/** Cancel, retry or delete a transcription. */
export async function act(id: string, action: Action, keepalive = false): Promise<void> {
  const params = { path: { transcription_id: id } };
  switch (action) {
    case "cancel":
      await data(api.POST("/api/transcriptions/{transcription_id}/cancel", { params }));
      break;
    case "retry":
      await data(api.POST("/api/transcriptions/{transcription_id}/retry", { params }));
      break;
    case "delete":
      await data(api.DELETE("/api/transcriptions/{transcription_id}", { params, keepalive }));
      break;
  }
}

export function useAction() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ id, action }: { id: string; action: Action }) => act(id, action),
    onSettled: (_, __, { id }) => {
      void client.invalidateQueries({ queryKey: ["transcriptions"] });
      void client.invalidateQueries({ queryKey: ["transcription", id] });
    },
  });
}

export function useWorkerAction() {
  const client = useQueryClient();
  return useMutation({
    mutationFn: async ({ id, action }: { id: string; action: "drain" | "dismiss" }) => {
      const params = { path: { worker_id: id } };
      if (action === "drain") await data(api.POST("/api/workers/{worker_id}/drain", { params }));
      else await data(api.POST("/api/workers/{worker_id}/dismiss", { params }));
    },
    onSettled: () => client.invalidateQueries({ queryKey: ["workers"] }),
  });
}
